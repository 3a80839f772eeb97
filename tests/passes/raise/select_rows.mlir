// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// The first value that is all that later ops read: the residual joins before it, the last feed-forward runs on chosen rows only.
// Two attentions, of which the last counts.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: slm.attention {{.*}}layer = 0
// CHECK-NOT: slm.select_rows
// CHECK: slm.attention {{.*}}layer = 1
// CHECK: slm.linear %{{.*}} {name = "o1"}
// CHECK: %[[SUM:.*]] = slm.add
// CHECK-NEXT: %[[ROWS:.*]] = slm.select_rows %[[SUM]]
// CHECK: slm.linear %[[ROWS]], [%{{.*}}] {name = "m1"}
// CHECK: slm.add %[[ROWS]], %
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k0: tensor<?x1x?x16xf32> {onnx.name = "past.k0", onnx.dims = ["b", "1", "p", "16"]}, %v0: tensor<?x1x?x16xf32> {onnx.name = "past.v0", onnx.dims = ["b", "1", "p", "16"]}, %k1: tensor<?x1x?x16xf32> {onnx.name = "past.k1", onnx.dims = ["b", "1", "p", "16"]}, %v1: tensor<?x1x?x16xf32> {onnx.name = "past.v1", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wqkv = onnx.weight "wqkv" {id = 1 : i64} : tensor<32x64xf32>
  %wo = onnx.weight "wo" {id = 2 : i64} : tensor<32x32xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Sub" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %pq0 = onnx.node "MatMul" "qkv0"(%x, %wqkv) {} : (tensor<?x?x32xf32>, tensor<32x64xf32>) -> tensor<?x?x64xf32>
  %g0:3 = onnx.node "GroupQueryAttention" "gqa0"(%pq0, %none, %none, %k0, %v0, %len, %tot) {num_heads = 2 : i64, kv_num_heads = 1 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  %o0 = onnx.node "MatMul" "o0"(%g0#0, %wo) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %r0 = onnx.node "Add" "r0"(%x, %o0) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %m0 = onnx.node "MatMul" "m0"(%r0, %wo) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %x0 = onnx.node "Add" "x0"(%r0, %m0) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %pq1 = onnx.node "MatMul" "qkv1"(%x0, %wqkv) {} : (tensor<?x?x32xf32>, tensor<32x64xf32>) -> tensor<?x?x64xf32>
  %g1:3 = onnx.node "GroupQueryAttention" "gqa1"(%pq1, %none, %none, %k1, %v1, %len, %tot) {num_heads = 2 : i64, kv_num_heads = 1 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  %o1 = onnx.node "MatMul" "o1"(%g1#0, %wo) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %r1 = onnx.node "Add" "r1"(%x0, %o1) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %m1 = onnx.node "MatMul" "m1"(%r1, %wo) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %x1 = onnx.node "Add" "x1"(%r1, %m1) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %x1, %g0#1, %g0#2, %g1#1, %g1#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}
