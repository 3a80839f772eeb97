// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Parts of unequal size.
// CHECK-LABEL: func.func @main
// CHECK: slm.slice %{{.*}} {first = 8 : i64} : tensor<?x32xf32> -> tensor<?x24xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x24xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %sizes = onnx.constant "sizes" dense<[8, 24]> : tensor<2xi64> : tensor<2xi64>
  %a:2 = onnx.node "Split" "a"(%x, %sizes) {axis = -1 : i64} : (tensor<?x?x32xf32>, tensor<2xi64>) -> (tensor<?x?x8xf32>, tensor<?x?x24xf32>)
  return %a#1 : tensor<?x?x24xf32>
}
}

// -----

// Reshapes and transposes that undo each other vanish.
// CHECK-LABEL: func.func @main
// CHECK-NEXT: slm.weight
// CHECK-NEXT: %[[X:.*]] = slm.embedding
// CHECK-NEXT: slm.select_rows %[[X]]
// CHECK-NEXT: return
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %t = onnx.node "Transpose" "t"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %u = onnx.node "Transpose" "u"(%t) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Columns permuted within the row are no view.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Reshape" "y"{{.*}}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %t = onnx.node "Transpose" "t"(%h) {perm = array<i64: 0, 1, 3, 2>} : (tensor<?x?x2x16xf32>) -> tensor<?x?x16x2xf32>
  %y = onnx.node "Reshape" "y"(%t, %s3) {allowzero = 0 : i64} : (tensor<?x?x16x2xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Every other column.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Slice" "y"{{.*}}raise.why = "it is not a view of whole column ranges"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %from = onnx.constant "from" dense<0> : tensor<1xi64> : tensor<1xi64>
  %to = onnx.constant "to" dense<32> : tensor<1xi64> : tensor<1xi64>
  %axis = onnx.constant "axis" dense<2> : tensor<1xi64> : tensor<1xi64>
  %step = onnx.constant "step" dense<2> : tensor<1xi64> : tensor<1xi64>
  %y = onnx.node "Slice" "y"(%x, %from, %to, %axis, %step) {} : (tensor<?x?x32xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?x16xf32>
  return %y : tensor<?x?x16xf32>
}
}

// -----

// The last token of a step of a decoder is whichever row is asked for.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: slm.attention
// CHECK: slm.select_rows
// CHECK-NOT: onnx.node
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x1x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) {
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
  %at = onnx.constant "at" dense<-1> : tensor<i64> : tensor<i64>
  %last = onnx.node "Gather" "last"(%y, %at) {axis = 1 : i64} : (tensor<?x?x32xf32>, tensor<i64>) -> tensor<?x32xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %one_row = onnx.node "Unsqueeze" "one_row"(%last, %ax1) {} : (tensor<?x32xf32>, tensor<1xi64>) -> tensor<?x1x32xf32>
  return %one_row, %ck, %cv : tensor<?x1x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}

// -----

// Its first token is none: what is asked for may be another.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Gather" "last"{{.*}}raise.why = "it is not a view of whole column ranges"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x2x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "2", "p", "16"]}, %v: tensor<?x2x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "2", "p", "16"]}) -> (tensor<?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) {
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
  %at = onnx.constant "at" dense<0> : tensor<i64> : tensor<i64>
  %last = onnx.node "Gather" "last"(%y, %at) {axis = 1 : i64} : (tensor<?x?x32xf32>, tensor<i64>) -> tensor<?x32xf32>
  return %last, %ck, %cv : tensor<?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}
