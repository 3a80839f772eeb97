// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// GPT-NeoX: each head's query, key and value lie together, [heads, q k v, dim]. The order moves into the weights, 16 rows a
// head, and into the bias.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: slm.weight "w" {col_stride = 96 : i64, id = 1 : i64, offset = 32 : i64, row_stride = 1 : i64} : tensor<16x32xf32>
// CHECK: slm.weight "w" {col_stride = 96 : i64, id = 1 : i64, offset = 80 : i64, row_stride = 1 : i64} : tensor<16x32xf32>
// CHECK: slm.weight "b" {id = 2 : i64, offset = 32 : i64, row_stride = 16 : i64} : tensor<1x16xf32>
// CHECK: slm.weight "b" {id = 2 : i64, offset = 80 : i64, row_stride = 16 : i64} : tensor<1x16xf32>
// CHECK: %[[VB:.*]] = slm.join[%{{.*}}, %{{.*}}]
// CHECK: %[[V:.*]] = slm.linear %{{.*}}, [%{{.*}}, %{{.*}}] bias %[[VB]]
// CHECK: slm.weight "w" {col_stride = 96 : i64, id = 1 : i64, offset = 16 : i64, row_stride = 1 : i64} : tensor<16x32xf32>
// CHECK: %[[K:.*]] = slm.linear
// CHECK: slm.weight "w" {col_stride = 96 : i64, id = 1 : i64, row_stride = 1 : i64} : tensor<16x32xf32>
// CHECK: %[[Q:.*]] = slm.linear
// CHECK: slm.attention %[[Q]], %[[K]], %[[V]]
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32x96xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<96xf32>
  %xl = onnx.node "MatMul" "qkv"(%x, %w) {} : (tensor<?x?x32xf32>, tensor<32x96xf32>) -> tensor<?x?x96xf32>
  %xb = onnx.node "Add" "qkv_bias"(%b, %xl) {} : (tensor<96xf32>, tensor<?x?x96xf32>) -> tensor<?x?x96xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 48]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xb, %s4) {allowzero = 0 : i64} : (tensor<?x?x96xf32>, tensor<4xi64>) -> tensor<?x?x2x48xf32>
  %ht = onnx.node "Transpose" "ht"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x48xf32>) -> tensor<?x2x?x48xf32>
  %sp = onnx.constant "sp" dense<[16, 16, 16]> : tensor<3xi64> : tensor<3xi64>
  %q, %kn, %vn = onnx.node "Split" "split"(%ht, %sp) {axis = 3 : i64} : (tensor<?x2x?x48xf32>, tensor<3xi64>) -> (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>)
  %ck = onnx.node "Concat" "ck"(%k, %kn) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %cv = onnx.node "Concat" "cv"(%v, %vn) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %th = onnx.node "Shape" "th"(%mask) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %T = onnx.node "Squeeze" "T"(%th) {} : (tensor<1xi64>) -> tensor<i64>
  %P = onnx.node "Sub" "P"(%T, %S) {} : (tensor<i64>, tensor<i64>) -> tensor<i64>
  %qr = onnx.node "Range" "qr"(%P, %T, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %ki = onnx.node "Range" "ki"(%z, %T, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%qr, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %le = onnx.node "LessOrEqual" "le"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi1>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "And" "full"(%le, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %qs = onnx.node "Mul" "qs"(%q, %half) {} : (tensor<?x2x?x16xf32>, tensor<f32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%ck) {perm = array<i64: 0, 1, 3, 2>} : (tensor<?x2x?x16xf32>) -> tensor<?x2x16x?xf32>
  %kTs = onnx.node "Mul" "kTs"(%kT, %half) {} : (tensor<?x2x16x?xf32>, tensor<f32>) -> tensor<?x2x16x?xf32>
  %sc = onnx.node "MatMul" "sc"(%qs, %kTs) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%sc, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %cv) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}


// -----

// Behind an activation there is no matrix whose rows could take the order.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Split"
// CHECK-NOT: slm.attention
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32x96xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<96xf32>
  %xl = onnx.node "MatMul" "qkv"(%x, %w) {} : (tensor<?x?x32xf32>, tensor<32x96xf32>) -> tensor<?x?x96xf32>
  %xb = onnx.node "Add" "qkv_bias"(%b, %xl) {} : (tensor<96xf32>, tensor<?x?x96xf32>) -> tensor<?x?x96xf32>
  %act = onnx.node "Relu" "act"(%xb) {} : (tensor<?x?x96xf32>) -> tensor<?x?x96xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 48]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%act, %s4) {allowzero = 0 : i64} : (tensor<?x?x96xf32>, tensor<4xi64>) -> tensor<?x?x2x48xf32>
  %ht = onnx.node "Transpose" "ht"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x48xf32>) -> tensor<?x2x?x48xf32>
  %sp = onnx.constant "sp" dense<[16, 16, 16]> : tensor<3xi64> : tensor<3xi64>
  %q, %kn, %vn = onnx.node "Split" "split"(%ht, %sp) {axis = 3 : i64} : (tensor<?x2x?x48xf32>, tensor<3xi64>) -> (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>)
  %ck = onnx.node "Concat" "ck"(%k, %kn) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %cv = onnx.node "Concat" "cv"(%v, %vn) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %th = onnx.node "Shape" "th"(%mask) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %T = onnx.node "Squeeze" "T"(%th) {} : (tensor<1xi64>) -> tensor<i64>
  %P = onnx.node "Sub" "P"(%T, %S) {} : (tensor<i64>, tensor<i64>) -> tensor<i64>
  %qr = onnx.node "Range" "qr"(%P, %T, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %ki = onnx.node "Range" "ki"(%z, %T, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%qr, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %le = onnx.node "LessOrEqual" "le"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi1>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "And" "full"(%le, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %qs = onnx.node "Mul" "qs"(%q, %half) {} : (tensor<?x2x?x16xf32>, tensor<f32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%ck) {perm = array<i64: 0, 1, 3, 2>} : (tensor<?x2x?x16xf32>) -> tensor<?x2x16x?xf32>
  %kTs = onnx.node "Mul" "kTs"(%kT, %half) {} : (tensor<?x2x16x?xf32>, tensor<f32>) -> tensor<?x2x16x?xf32>
  %sc = onnx.node "MatMul" "sc"(%qs, %kTs) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%sc, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %cv) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}

