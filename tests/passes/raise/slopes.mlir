// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// ALiBi: slope * the number of the key among the tokens, below the mask.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: slm.attention {{.*}}scale = 2.500000e-01 : f64, slopes = array<f64: 5.000000e-01, 1.250000e-01>}
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
  %mz = onnx.node "Cast" "mz"(%mask) {to = 1 : i64} : (tensor<?x?xi64>) -> tensor<?x?xf32>
  %axis = onnx.constant "axis" dense<1> : tensor<i64> : tensor<i64>
  %cs = onnx.node "CumSum" "cs"(%mz, %axis) {} : (tensor<?x?xf32>, tensor<i64>) -> tensor<?x?xf32>
  %slopes = onnx.constant "slopes" dense<[[[0.5]], [[0.125]]]> : tensor<2x1x1xf32> : tensor<2x1x1xf32>
  %cs4 = onnx.node "Unsqueeze" "cs4"(%cs, %ax12) {} : (tensor<?x?xf32>, tensor<2xi64>) -> tensor<?x1x1x?xf32>
  %alibi = onnx.node "Mul" "alibi"(%slopes, %cs4) {} : (tensor<2x1x1xf32>, tensor<?x1x1x?xf32>) -> tensor<?x2x1x?xf32>
  %sb = onnx.node "Add" "sb"(%sc, %alibi) {} : (tensor<?x2x?x?xf32>, tensor<?x2x1x?xf32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%sb, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %cv) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}


// -----

// A bias that grows with the square of the position has no slope.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.attention
// CHECK: raise.why = "its biases are not a causal mask with slope * position of the key, the slope constant"
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
  %mz = onnx.node "Cast" "mz"(%mask) {to = 1 : i64} : (tensor<?x?xi64>) -> tensor<?x?xf32>
  %axis = onnx.constant "axis" dense<1> : tensor<i64> : tensor<i64>
  %cs = onnx.node "CumSum" "cs"(%mz, %axis) {} : (tensor<?x?xf32>, tensor<i64>) -> tensor<?x?xf32>
  %slopes = onnx.constant "slopes" dense<[[[0.5]], [[0.125]]]> : tensor<2x1x1xf32> : tensor<2x1x1xf32>
  %cs4 = onnx.node "Unsqueeze" "cs4"(%cs, %ax12) {} : (tensor<?x?xf32>, tensor<2xi64>) -> tensor<?x1x1x?xf32>
  %sq = onnx.node "Mul" "sq"(%cs4, %cs4) {} : (tensor<?x1x1x?xf32>, tensor<?x1x1x?xf32>) -> tensor<?x1x1x?xf32>
  %alibi = onnx.node "Mul" "alibi"(%slopes, %sq) {} : (tensor<2x1x1xf32>, tensor<?x1x1x?xf32>) -> tensor<?x2x1x?xf32>
  %sb = onnx.node "Add" "sb"(%sc, %alibi) {} : (tensor<?x2x?x?xf32>, tensor<?x2x1x?xf32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%sb, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %cv) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}


// -----

// A bias below a mask that lets later positions through is no causal attention.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.attention
// CHECK: raise.why = "its biases are not a causal mask with slope * position of the key, the slope constant"
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
  %full = onnx.node "And" "full"(%m4, %m4) {} : (tensor<?x1x1x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %qs = onnx.node "Mul" "qs"(%q, %half) {} : (tensor<?x2x?x16xf32>, tensor<f32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%ck) {perm = array<i64: 0, 1, 3, 2>} : (tensor<?x2x?x16xf32>) -> tensor<?x2x16x?xf32>
  %kTs = onnx.node "Mul" "kTs"(%kT, %half) {} : (tensor<?x2x16x?xf32>, tensor<f32>) -> tensor<?x2x16x?xf32>
  %sc = onnx.node "MatMul" "sc"(%qs, %kTs) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %mz = onnx.node "Cast" "mz"(%mask) {to = 1 : i64} : (tensor<?x?xi64>) -> tensor<?x?xf32>
  %axis = onnx.constant "axis" dense<1> : tensor<i64> : tensor<i64>
  %cs = onnx.node "CumSum" "cs"(%mz, %axis) {} : (tensor<?x?xf32>, tensor<i64>) -> tensor<?x?xf32>
  %slopes = onnx.constant "slopes" dense<[[[0.5]], [[0.125]]]> : tensor<2x1x1xf32> : tensor<2x1x1xf32>
  %cs4 = onnx.node "Unsqueeze" "cs4"(%cs, %ax12) {} : (tensor<?x?xf32>, tensor<2xi64>) -> tensor<?x1x1x?xf32>
  %alibi = onnx.node "Mul" "alibi"(%slopes, %cs4) {} : (tensor<2x1x1xf32>, tensor<?x1x1x?xf32>) -> tensor<?x2x1x?xf32>
  %sb = onnx.node "Add" "sb"(%sc, %alibi) {} : (tensor<?x2x?x?xf32>, tensor<?x2x1x?xf32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%sb, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %cv) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y, %ck, %cv : tensor<?x?x32xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
}
}

