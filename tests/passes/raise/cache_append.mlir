// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// What is read is not what the caller gets back for the next step.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Concat" "ck"{{.*}}raise.why = "the extended cache is not an output of the graph"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ck = onnx.node "Concat" "ck"(%k, %q) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %cv = onnx.node "Concat" "cv"(%v, %q) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
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
  %r = onnx.node "Attention" "att"(%q, %ck, %cv, %full) {scale = 0.25 : f32, softcap = 0.0 : f32, is_causal = 0 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x1x?x?xi1>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Keys and values in one cache input.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Concat" "cv"{{.*}}raise.why = "two nodes append to the same cache"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ck = onnx.node "Concat" "ck"(%k, %q) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %cv = onnx.node "Concat" "cv"(%k, %q) {axis = -2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
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
  %r = onnx.node "Attention" "att"(%q, %ck, %cv, %full) {scale = 0.25 : f32, softcap = 0.0 : f32, is_causal = 0 : i64} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x1x?x?xi1>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}
