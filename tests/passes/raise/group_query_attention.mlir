// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Packed [q | k | v]; scale 0 means 1/sqrt(head size).
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: %[[Q:.*]] = slm.slice %{{.*}} {first = 0 : i64} : tensor<?x64xf32> -> tensor<?x32xf32>
// CHECK: %[[K:.*]] = slm.slice %{{.*}} {first = 32 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
// CHECK: %[[V:.*]] = slm.slice %{{.*}} {first = 48 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
// CHECK: %[[RQ:.*]] = slm.rope %[[Q]], %{{.*}}, %{{.*}} {head_dim = 16 : i64, rotary_dim = 16 : i64}
// CHECK: %[[RK:.*]] = slm.rope %[[K]]
// CHECK: slm.attention %[[RQ]], %[[RK]], %[[V]] {head_dim = 16 : i64, heads = 2 : i64, kv_heads = 1 : i64, layer = 0 : i64, scale = 2.500000e-01 : f64, softcap = 5.000000e+01 : f64, window = 4 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x64xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x64xf32>, tensor<?x?xi64>) -> tensor<?x?x64xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x8xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x8xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Sub" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %g:3 = onnx.node "GroupQueryAttention" "gqa"(%x, %none, %none, %k, %v, %len, %tot, %ct, %st) {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64, softcap = 50.0 : f32, local_window_size = 4 : i64, scale = 0.0 : f32} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>, tensor<64x8xf32>, tensor<64x8xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %g#0, %g#1, %g#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: raise.why = "input 11 (attention bias, head sink or quantized cache) is given"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %sink = onnx.weight "sink" {id = 5 : i64} : tensor<2xf32>
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x64xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x64xf32>, tensor<?x?xi64>) -> tensor<?x?x64xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x8xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x8xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Sub" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %g:3 = onnx.node "GroupQueryAttention" "gqa"(%x, %none, %none, %k, %v, %len, %tot, %ct, %st, %none, %none, %sink) {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>, tensor<64x8xf32>, tensor<64x8xf32>, none, none, tensor<2xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %g#0, %g#1, %g#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: raise.why = "attribute sliding_window_cache is set, whose meaning is not known"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x64xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x64xf32>, tensor<?x?xi64>) -> tensor<?x?x64xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x8xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x8xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Sub" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %g:3 = onnx.node "GroupQueryAttention" "gqa"(%x, %none, %none, %k, %v, %len, %tot, %ct, %st) {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64, sliding_window_cache = 1 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>, tensor<64x8xf32>, tensor<64x8xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %g#0, %g#1, %g#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: raise.why = "its lengths are not sum(attention_mask) - 1 and the total length"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x64xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x64xf32>, tensor<?x?xi64>) -> tensor<?x?x64xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x8xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x8xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Add" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %g:3 = onnx.node "GroupQueryAttention" "gqa"(%x, %none, %none, %k, %v, %len, %tot, %ct, %st) {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>, tensor<64x8xf32>, tensor<64x8xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %g#0, %g#1, %g#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// With a window, the ring buffer is only how a caller keeps the cache.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: slm.attention {{.*}}window = 4 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x64xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x64xf32>, tensor<?x?xi64>) -> tensor<?x?x64xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x8xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x8xf32>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %none = onnx.none : none
  %i1 = onnx.constant "i1" dense<1> : tensor<i64> : tensor<i64>
  %sum = onnx.node "ReduceSum" "sum"(%mask, %one) {keepdims = 0 : i64} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %len = onnx.node "Sub" "len"(%sum, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
  %sh = onnx.node "Shape" "sh"(%mask) {} : (tensor<?x?xi64>) -> tensor<2xi64>
  %tot = onnx.node "Gather" "tot"(%sh, %i1) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %g:3 = onnx.node "GroupQueryAttention" "gqa"(%x, %none, %none, %k, %v, %len, %tot, %ct, %st) {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64, sliding_window_cache = 1 : i64, local_window_size = 4 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x64xf32>, none, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>, tensor<?xi64>, tensor<i64>, tensor<64x8xf32>, tensor<64x8xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %g#0, %g#1, %g#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}
