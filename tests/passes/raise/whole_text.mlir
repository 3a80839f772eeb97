// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Without a cache a padding mask lets every token see the whole text. 7: hidden states.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32> attributes {raise.output = 7 : i64}
// CHECK: slm.attention %{{.*}}, %{{.*}}, %{{.*}} {bidirectional = true, head_dim = 16 : i64, heads = 2 : i64, kv_heads = 2 : i64, layer = 0 : i64, scale = 2.500000e-01 : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "Identity" "full"(%m4) {} : (tensor<?x1x1x?xi1>) -> tensor<?x1x1x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A window of two tokens on both sides.
// CHECK-LABEL: func.func @main
// CHECK: slm.attention %{{.*}}, %{{.*}}, %{{.*}} {bidirectional = true, head_dim = 16 : i64, heads = 2 : i64, kv_heads = 2 : i64, layer = 0 : i64, scale = 2.500000e-01 : f64, window = 3 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %ki = onnx.node "Range" "ki"(%z, %S, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%ki, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %ahead = onnx.node "Sub" "ahead"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi64>
  %most = onnx.constant "most" dense<2> : tensor<i64> : tensor<i64>
  %least = onnx.constant "least" dense<-2> : tensor<i64> : tensor<i64>
  %le = onnx.node "LessOrEqual" "le"(%ahead, %most) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %ge = onnx.node "GreaterOrEqual" "ge"(%ahead, %least) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %both = onnx.node "And" "both"(%le, %ge) {} : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %full = onnx.node "And" "full"(%both, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// More on one side than on the other is none.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.attention
// CHECK: onnx.node "MatMul" "att"{{.*}}raise.why = "its mask cannot be evaluated
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %ki = onnx.node "Range" "ki"(%z, %S, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%ki, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %ahead = onnx.node "Sub" "ahead"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi64>
  %most = onnx.constant "most" dense<1> : tensor<i64> : tensor<i64>
  %least = onnx.constant "least" dense<-2> : tensor<i64> : tensor<i64>
  %le = onnx.node "LessOrEqual" "le"(%ahead, %most) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %ge = onnx.node "GreaterOrEqual" "ge"(%ahead, %least) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %both = onnx.node "And" "both"(%le, %ge) {} : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %full = onnx.node "And" "full"(%both, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A window before the token alone is causal.
// CHECK-LABEL: func.func @main
// CHECK: slm.attention %{{.*}} {head_dim = 16 : i64{{.*}}window = 3 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %ki = onnx.node "Range" "ki"(%z, %S, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%ki, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %ahead = onnx.node "Sub" "ahead"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi64>
  %most = onnx.constant "most" dense<0> : tensor<i64> : tensor<i64>
  %least = onnx.constant "least" dense<-2> : tensor<i64> : tensor<i64>
  %le = onnx.node "LessOrEqual" "le"(%ahead, %most) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %ge = onnx.node "GreaterOrEqual" "ge"(%ahead, %least) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %both = onnx.node "And" "both"(%le, %ge) {} : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %full = onnx.node "And" "full"(%both, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A head over the first token gives classes of the text, 9.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x3xf32> attributes {raise.output = 9 : i64}
// CHECK: slm.attention
// CHECK: slm.select_rows
// CHECK: slm.linear %{{.*}}tensor<3x32xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x3xf32> {onnx.name = "logits"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "Identity" "full"(%m4) {} : (tensor<?x1x1x?xi1>) -> tensor<?x1x1x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  %index = onnx.constant "index" dense<0> : tensor<i64> : tensor<i64>
  %first = onnx.node "Gather" "first"(%y, %index) {axis = 1 : i64} : (tensor<?x?x32xf32>, tensor<i64>) -> tensor<?x32xf32>
  %cw = onnx.weight "cw" {id = 2 : i64} : tensor<3x32xf32>
  %logits = onnx.node "Gemm" "classifier"(%first, %cw) {transB = 1 : i64} : (tensor<?x32xf32>, tensor<3x32xf32>) -> tensor<?x3xf32>
  return %logits : tensor<?x3xf32>
}
}

// -----

// A head over the second token is none of those.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Gather" "first"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x3xf32> {onnx.name = "logits"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "Identity" "full"(%m4) {} : (tensor<?x1x1x?xi1>) -> tensor<?x1x1x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  %index = onnx.constant "index" dense<1> : tensor<i64> : tensor<i64>
  %first = onnx.node "Gather" "first"(%y, %index) {axis = 1 : i64} : (tensor<?x?x32xf32>, tensor<i64>) -> tensor<?x32xf32>
  %cw = onnx.weight "cw" {id = 2 : i64} : tensor<3x32xf32>
  %logits = onnx.node "Gemm" "classifier"(%first, %cw) {transB = 1 : i64} : (tensor<?x32xf32>, tensor<3x32xf32>) -> tensor<?x3xf32>
  return %logits : tensor<?x3xf32>
}
}

// -----

// The mean over tokens, of length 1, is left to the runtime: 1, mean.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32> attributes {raise.normalize = true, raise.output = 7 : i64, raise.pooling = 1 : i64}
// CHECK: slm.attention
// CHECK-NOT: onnx.node
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x32xf32> {onnx.name = "sentence_embedding"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "Identity" "full"(%m4) {} : (tensor<?x1x1x?xi1>) -> tensor<?x1x1x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  %mf = onnx.node "Cast" "mf"(%mask) {to = 1 : i64} : (tensor<?x?xi64>) -> tensor<?x?xf32>
  %two = onnx.constant "two" dense<2> : tensor<1xi64> : tensor<1xi64>
  %m3 = onnx.node "Unsqueeze" "m3"(%mf, %two) {} : (tensor<?x?xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %masked = onnx.node "Mul" "masked"(%y, %m3) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sum = onnx.node "ReduceSum" "sum"(%masked, %one) {keepdims = 0 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x32xf32>
  %n = onnx.node "ReduceSum" "n"(%m3, %one) {keepdims = 0 : i64} : (tensor<?x?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
  %mean = onnx.node "Div" "mean"(%sum, %n) {} : (tensor<?x32xf32>, tensor<?x1xf32>) -> tensor<?x32xf32>
  %tiny = onnx.constant "tiny" dense<1.0e-12> : tensor<f32> : tensor<f32>
  %norm = onnx.node "ReduceL2" "norm"(%mean, %one) {keepdims = 1 : i64} : (tensor<?x32xf32>, tensor<1xi64>) -> tensor<?x1xf32>
  %clip = onnx.node "Clip" "clip"(%norm, %tiny) {} : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
  %e = onnx.node "Div" "e"(%mean, %clip) {} : (tensor<?x32xf32>, tensor<?x1xf32>) -> tensor<?x32xf32>
  return %e : tensor<?x32xf32>
}
}

// -----

// A mean that counts the padding too is another.
// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Div" "mean"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x32xf32> {onnx.name = "sentence_embedding"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %full = onnx.node "Identity" "full"(%m4) {} : (tensor<?x1x1x?xi1>) -> tensor<?x1x1x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x1x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  %mf = onnx.node "Cast" "mf"(%mask) {to = 1 : i64} : (tensor<?x?xi64>) -> tensor<?x?xf32>
  %two = onnx.constant "two" dense<2> : tensor<1xi64> : tensor<1xi64>
  %m3 = onnx.node "Unsqueeze" "m3"(%mf, %two) {} : (tensor<?x?xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %masked = onnx.node "Mul" "masked"(%y, %m3) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sum = onnx.node "ReduceSum" "sum"(%masked, %one) {keepdims = 0 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x32xf32>
  %ones = onnx.node "Equal" "ones"(%m3, %m3) {} : (tensor<?x?x1xf32>, tensor<?x?x1xf32>) -> tensor<?x?x1xi1>
  %onesf = onnx.node "Cast" "onesf"(%ones) {to = 1 : i64} : (tensor<?x?x1xi1>) -> tensor<?x?x1xf32>
  %n = onnx.node "ReduceSum" "n"(%onesf, %one) {keepdims = 0 : i64} : (tensor<?x?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
  %mean = onnx.node "Div" "mean"(%sum, %n) {} : (tensor<?x32xf32>, tensor<?x1xf32>) -> tensor<?x32xf32>
  %tiny = onnx.constant "tiny" dense<1.0e-12> : tensor<f32> : tensor<f32>
  %norm = onnx.node "ReduceL2" "norm"(%mean, %one) {keepdims = 1 : i64} : (tensor<?x32xf32>, tensor<1xi64>) -> tensor<?x1xf32>
  %clip = onnx.node "Clip" "clip"(%norm, %tiny) {} : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
  %e = onnx.node "Div" "e"(%mean, %clip) {} : (tensor<?x32xf32>, tensor<?x1xf32>) -> tensor<?x32xf32>
  return %e : tensor<?x32xf32>
}
}

// -----

// Token types, and the type of graphs that have none.
// CHECK-LABEL: func.func @main
// CHECK: slm.embedding {{.*}}token_types = 2 : i64
// CHECK: slm.embedding {{.*}}token_types = 1 : i64
module {
func.func @main(%types: tensor<?x?xi64> {onnx.name = "token_type_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "types" {id = 0 : i64} : tensor<2x32xf32>
  %x = onnx.node "Gather" "given"(%table, %types) {} : (tensor<2x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %none = onnx.node "Sub" "none"(%types, %types) {} : (tensor<?x?xi64>, tensor<?x?xi64>) -> tensor<?x?xi64>
  %z = onnx.node "Gather" "zero"(%table, %none) {} : (tensor<2x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %y = onnx.node "Add" "y"(%x, %z) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A window longer than the samples are is not taken for none.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.attention
// CHECK: onnx.node "MatMul" "att"{{.*}}raise.why = "its mask names a length beyond
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32> {onnx.name = "last_hidden_state"}) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %qw = onnx.weight "qw" {id = 1 : i64} : tensor<32x32xf32>
  %xl = onnx.node "MatMul" "q_proj"(%x, %qw) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%xl, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %kT = onnx.node "Transpose" "kT"(%h) {perm = array<i64: 0, 2, 3, 1>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x16x?xf32>
  %ax12 = onnx.constant "ax12" dense<[1, 2]> : tensor<2xi64> : tensor<2xi64>
  %one = onnx.constant "one" dense<1> : tensor<1xi64> : tensor<1xi64>
  %mb = onnx.node "Cast" "mb"(%mask) {to = 9 : i64} : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m4 = onnx.node "Unsqueeze" "m4"(%mb, %ax12) {} : (tensor<?x?xi1>, tensor<2xi64>) -> tensor<?x1x1x?xi1>
  %z = onnx.constant "z" dense<0> : tensor<i64> : tensor<i64>
  %o = onnx.constant "o" dense<1> : tensor<i64> : tensor<i64>
  %sh = onnx.node "Shape" "sh"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %S = onnx.node "Squeeze" "S"(%sh) {} : (tensor<1xi64>) -> tensor<i64>
  %ki = onnx.node "Range" "ki"(%z, %S, %o) {} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
  %qc = onnx.node "Unsqueeze" "qc"(%ki, %one) {} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
  %ahead = onnx.node "Sub" "ahead"(%ki, %qc) {} : (tensor<?xi64>, tensor<?x1xi64>) -> tensor<?x?xi64>
  %most = onnx.constant "most" dense<2000> : tensor<i64> : tensor<i64>
  %least = onnx.constant "least" dense<-2000> : tensor<i64> : tensor<i64>
  %le = onnx.node "LessOrEqual" "le"(%ahead, %most) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %ge = onnx.node "GreaterOrEqual" "ge"(%ahead, %least) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
  %both = onnx.node "And" "both"(%le, %ge) {} : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %full = onnx.node "And" "full"(%both, %m4) {} : (tensor<?x?xi1>, tensor<?x1x1x?xi1>) -> tensor<?x1x?x?xi1>
  %scale = onnx.constant "scale" dense<0.25> : tensor<f32> : tensor<f32>
  %zero = onnx.constant "zero" dense<0.0> : tensor<f32> : tensor<f32>
  %low = onnx.constant "low" dense<-3.40282347E+38> : tensor<f32> : tensor<f32>
  %sc = onnx.node "MatMul" "sc"(%q, %kT) {} : (tensor<?x2x?x16xf32>, tensor<?x2x16x?xf32>) -> tensor<?x2x?x?xf32>
  %ss = onnx.node "Mul" "ss"(%sc, %scale) {} : (tensor<?x2x?x?xf32>, tensor<f32>) -> tensor<?x2x?x?xf32>
  %add = onnx.node "Where" "add"(%full, %zero, %low) {} : (tensor<?x1x?x?xi1>, tensor<f32>, tensor<f32>) -> tensor<?x1x?x?xf32>
  %sa = onnx.node "Add" "sa"(%ss, %add) {} : (tensor<?x2x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x2x?x?xf32>
  %p = onnx.node "Softmax" "p"(%sa) {axis = -1 : i64} : (tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
  %r = onnx.node "MatMul" "att"(%p, %q) {} : (tensor<?x2x?x?xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
