// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// By halves.
// CHECK-LABEL: func.func @main
// CHECK: slm.rope %{{.*}} {head_dim = 16 : i64, rotary_dim = 16 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ax2 = onnx.constant "ax2" dense<2> : tensor<1xi64> : tensor<1xi64>
  %p3 = onnx.node "Unsqueeze" "p3"(%pos, %ax2) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %pf = onnx.node "Cast" "pf"(%p3) {to = 1 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xf32>
  %freq = onnx.constant "inv_freq" dense<[1.0, 0.5, 0.25, 0.125, 0.1, 0.05, 0.01, 0.001]> : tensor<8xf32> : tensor<8xf32>
  %ang = onnx.node "Mul" "ang"(%pf, %freq) {} : (tensor<?x?x1xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
  %aa = onnx.node "Concat" "aa"(%ang, %ang) {axis = -1 : i64} : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x16xf32>
  %cos = onnx.node "Cos" "cos"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %sin = onnx.node "Sin" "sin"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %cos4 = onnx.node "Unsqueeze" "cos4"(%cos, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %sin4 = onnx.node "Unsqueeze" "sin4"(%sin, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %lof = onnx.constant "lof" dense<0> : tensor<1xi64> : tensor<1xi64>
  %lot = onnx.constant "lot" dense<8> : tensor<1xi64> : tensor<1xi64>
  %loa = onnx.constant "loa" dense<3> : tensor<1xi64> : tensor<1xi64>
  %los = onnx.constant "los" dense<1> : tensor<1xi64> : tensor<1xi64>
  %lo = onnx.node "Slice" "lo"(%q, %lof, %lot, %loa, %los) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %hif = onnx.constant "hif" dense<8> : tensor<1xi64> : tensor<1xi64>
  %hit = onnx.constant "hit" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %hia = onnx.constant "hia" dense<3> : tensor<1xi64> : tensor<1xi64>
  %his = onnx.constant "his" dense<1> : tensor<1xi64> : tensor<1xi64>
  %hi = onnx.node "Slice" "hi"(%q, %hif, %hit, %hia, %his) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %neg = onnx.node "Neg" "neg"(%hi) {} : (tensor<?x2x?x8xf32>) -> tensor<?x2x?x8xf32>
  %rot = onnx.node "Concat" "rot"(%neg, %lo) {axis = -1 : i64} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x16xf32>
  %m1x = onnx.node "Mul" "m1x"(%q, %cos4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %m2x = onnx.node "Mul" "m2x"(%rot, %sin4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %r = onnx.node "Add" "r"(%m1x, %m2x) {} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// By neighbours: slices with step 2.
// CHECK-LABEL: func.func @main
// CHECK: slm.rope %{{.*}} {head_dim = 16 : i64, interleaved = true, rotary_dim = 16 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ax2 = onnx.constant "ax2" dense<2> : tensor<1xi64> : tensor<1xi64>
  %p3 = onnx.node "Unsqueeze" "p3"(%pos, %ax2) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %pf = onnx.node "Cast" "pf"(%p3) {to = 1 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xf32>
  %freq = onnx.constant "inv_freq" dense<[1.0, 0.5, 0.25, 0.125, 0.1, 0.05, 0.01, 0.001]> : tensor<8xf32> : tensor<8xf32>
  %ang = onnx.node "Mul" "ang"(%pf, %freq) {} : (tensor<?x?x1xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
  %m1 = onnx.constant "m1" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %a4 = onnx.node "Unsqueeze" "a4"(%ang, %m1) {} : (tensor<?x?x8xf32>, tensor<1xi64>) -> tensor<?x?x8x1xf32>
  %a2 = onnx.node "Concat" "a2"(%a4, %a4) {axis = -1 : i64} : (tensor<?x?x8x1xf32>, tensor<?x?x8x1xf32>) -> tensor<?x?x8x2xf32>
  %s16 = onnx.constant "s16" dense<[0, 0, 16]> : tensor<3xi64> : tensor<3xi64>
  %aa = onnx.node "Reshape" "aa"(%a2, %s16) {allowzero = 0 : i64} : (tensor<?x?x8x2xf32>, tensor<3xi64>) -> tensor<?x?x16xf32>
  %cos = onnx.node "Cos" "cos"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %sin = onnx.node "Sin" "sin"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %cos4 = onnx.node "Unsqueeze" "cos4"(%cos, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %sin4 = onnx.node "Unsqueeze" "sin4"(%sin, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %lof = onnx.constant "lof" dense<0> : tensor<1xi64> : tensor<1xi64>
  %lot = onnx.constant "lot" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %loa = onnx.constant "loa" dense<3> : tensor<1xi64> : tensor<1xi64>
  %los = onnx.constant "los" dense<2> : tensor<1xi64> : tensor<1xi64>
  %lo = onnx.node "Slice" "lo"(%q, %lof, %lot, %loa, %los) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %hif = onnx.constant "hif" dense<1> : tensor<1xi64> : tensor<1xi64>
  %hit = onnx.constant "hit" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %hia = onnx.constant "hia" dense<3> : tensor<1xi64> : tensor<1xi64>
  %his = onnx.constant "his" dense<2> : tensor<1xi64> : tensor<1xi64>
  %hi = onnx.node "Slice" "hi"(%q, %hif, %hit, %hia, %his) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %neg = onnx.node "Neg" "neg"(%hi) {} : (tensor<?x2x?x8xf32>) -> tensor<?x2x?x8xf32>
  %negu = onnx.node "Unsqueeze" "negu"(%neg, %m1) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>) -> tensor<?x2x?x8x1xf32>
  %lou = onnx.node "Unsqueeze" "lou"(%lo, %m1) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>) -> tensor<?x2x?x8x1xf32>
  %cc = onnx.node "Concat" "cc"(%negu, %lou) {axis = -1 : i64} : (tensor<?x2x?x8x1xf32>, tensor<?x2x?x8x1xf32>) -> tensor<?x2x?x8x2xf32>
  %s16b = onnx.constant "s16b" dense<[0, 2, -1, 16]> : tensor<4xi64> : tensor<4xi64>
  %rot = onnx.node "Reshape" "rot"(%cc, %s16b) {allowzero = 0 : i64} : (tensor<?x2x?x8x2xf32>, tensor<4xi64>) -> tensor<?x2x?x16xf32>
  %m1x = onnx.node "Mul" "m1x"(%q, %cos4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %m2x = onnx.node "Mul" "m2x"(%rot, %sin4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %r = onnx.node "Add" "r"(%m1x, %m2x) {} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// [x2, -x1] turns the other way.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.rope
// CHECK: onnx.node "Add" "r"{{.*}}raise.closest = "rotate_half", raise.why = 
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ax2 = onnx.constant "ax2" dense<2> : tensor<1xi64> : tensor<1xi64>
  %p3 = onnx.node "Unsqueeze" "p3"(%pos, %ax2) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %pf = onnx.node "Cast" "pf"(%p3) {to = 1 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xf32>
  %freq = onnx.constant "inv_freq" dense<[1.0, 0.5, 0.25, 0.125, 0.1, 0.05, 0.01, 0.001]> : tensor<8xf32> : tensor<8xf32>
  %ang = onnx.node "Mul" "ang"(%pf, %freq) {} : (tensor<?x?x1xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
  %aa = onnx.node "Concat" "aa"(%ang, %ang) {axis = -1 : i64} : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x16xf32>
  %cos = onnx.node "Cos" "cos"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %sin = onnx.node "Sin" "sin"(%aa) {} : (tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %cos4 = onnx.node "Unsqueeze" "cos4"(%cos, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %sin4 = onnx.node "Unsqueeze" "sin4"(%sin, %ax1) {} : (tensor<?x?x16xf32>, tensor<1xi64>) -> tensor<?x1x?x16xf32>
  %lof = onnx.constant "lof" dense<0> : tensor<1xi64> : tensor<1xi64>
  %lot = onnx.constant "lot" dense<8> : tensor<1xi64> : tensor<1xi64>
  %loa = onnx.constant "loa" dense<3> : tensor<1xi64> : tensor<1xi64>
  %los = onnx.constant "los" dense<1> : tensor<1xi64> : tensor<1xi64>
  %lo = onnx.node "Slice" "lo"(%q, %lof, %lot, %loa, %los) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %hif = onnx.constant "hif" dense<8> : tensor<1xi64> : tensor<1xi64>
  %hit = onnx.constant "hit" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %hia = onnx.constant "hia" dense<3> : tensor<1xi64> : tensor<1xi64>
  %his = onnx.constant "his" dense<1> : tensor<1xi64> : tensor<1xi64>
  %hi = onnx.node "Slice" "hi"(%q, %hif, %hit, %hia, %his) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %neg = onnx.node "Neg" "neg"(%lo) {} : (tensor<?x2x?x8xf32>) -> tensor<?x2x?x8xf32>
  %rot = onnx.node "Concat" "rot"(%hi, %neg) {axis = -1 : i64} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x16xf32>
  %m1x = onnx.node "Mul" "m1x"(%q, %cos4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %m2x = onnx.node "Mul" "m2x"(%rot, %sin4) {} : (tensor<?x2x?x16xf32>, tensor<?x1x?x16xf32>) -> tensor<?x2x?x16xf32>
  %r = onnx.node "Add" "r"(%m1x, %m2x) {} : (tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Only the first half of each head turns.
// CHECK-LABEL: func.func @main
// CHECK: slm.rope %{{.*}} {head_dim = 16 : i64, rotary_dim = 8 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ax2 = onnx.constant "ax2" dense<2> : tensor<1xi64> : tensor<1xi64>
  %p3 = onnx.node "Unsqueeze" "p3"(%pos, %ax2) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %pf = onnx.node "Cast" "pf"(%p3) {to = 1 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xf32>
  %freq = onnx.constant "inv_freq" dense<[1.0, 0.1, 0.01, 0.001]> : tensor<4xf32> : tensor<4xf32>
  %ang = onnx.node "Mul" "ang"(%pf, %freq) {} : (tensor<?x?x1xf32>, tensor<4xf32>) -> tensor<?x?x4xf32>
  %aa = onnx.node "Concat" "aa"(%ang, %ang) {axis = -1 : i64} : (tensor<?x?x4xf32>, tensor<?x?x4xf32>) -> tensor<?x?x8xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %cos = onnx.node "Cos" "cos"(%aa) {} : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %cos4 = onnx.node "Unsqueeze" "cos4"(%cos, %ax1) {} : (tensor<?x?x8xf32>, tensor<1xi64>) -> tensor<?x1x?x8xf32>
  %sin = onnx.node "Sin" "sin"(%aa) {} : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %sin4 = onnx.node "Unsqueeze" "sin4"(%sin, %ax1) {} : (tensor<?x?x8xf32>, tensor<1xi64>) -> tensor<?x1x?x8xf32>
  %turnf = onnx.constant "turnf" dense<0> : tensor<1xi64> : tensor<1xi64>
  %turnt = onnx.constant "turnt" dense<8> : tensor<1xi64> : tensor<1xi64>
  %turna = onnx.constant "turna" dense<3> : tensor<1xi64> : tensor<1xi64>
  %turn = onnx.node "Slice" "turn"(%q, %turnf, %turnt, %turna) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %stayf = onnx.constant "stayf" dense<8> : tensor<1xi64> : tensor<1xi64>
  %stayt = onnx.constant "stayt" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %staya = onnx.constant "staya" dense<3> : tensor<1xi64> : tensor<1xi64>
  %stay = onnx.node "Slice" "stay"(%q, %stayf, %stayt, %staya) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %lof = onnx.constant "lof" dense<0> : tensor<1xi64> : tensor<1xi64>
  %lot = onnx.constant "lot" dense<4> : tensor<1xi64> : tensor<1xi64>
  %loa = onnx.constant "loa" dense<3> : tensor<1xi64> : tensor<1xi64>
  %lo = onnx.node "Slice" "lo"(%turn, %lof, %lot, %loa) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x4xf32>
  %hif = onnx.constant "hif" dense<4> : tensor<1xi64> : tensor<1xi64>
  %hit = onnx.constant "hit" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %hia = onnx.constant "hia" dense<3> : tensor<1xi64> : tensor<1xi64>
  %hi = onnx.node "Slice" "hi"(%turn, %hif, %hit, %hia) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x4xf32>
  %neg = onnx.node "Neg" "neg"(%hi) {} : (tensor<?x2x?x4xf32>) -> tensor<?x2x?x4xf32>
  %rot = onnx.node "Concat" "rot"(%neg, %lo) {axis = -1 : i64} : (tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) -> tensor<?x2x?x8xf32>
  %m1 = onnx.node "Mul" "m1"(%turn, %cos4) {} : (tensor<?x2x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x2x?x8xf32>
  %m2 = onnx.node "Mul" "m2"(%rot, %sin4) {} : (tensor<?x2x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x2x?x8xf32>
  %t = onnx.node "Add" "t"(%m1, %m2) {} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x8xf32>
  %r = onnx.node "Concat" "r"(%t, %stay) {axis = -1 : i64} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// The turned columns beside themselves.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.rope
// CHECK: onnx.node "Concat" "r"{{.*}}raise.why = "the columns beside the rotated ones are not the rest of the head"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s4 = onnx.constant "s4" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %s4) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %q = onnx.node "Transpose" "q"(%h) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x?x2x16xf32>) -> tensor<?x2x?x16xf32>
  %ax2 = onnx.constant "ax2" dense<2> : tensor<1xi64> : tensor<1xi64>
  %p3 = onnx.node "Unsqueeze" "p3"(%pos, %ax2) {} : (tensor<?x?xi64>, tensor<1xi64>) -> tensor<?x?x1xi64>
  %pf = onnx.node "Cast" "pf"(%p3) {to = 1 : i64} : (tensor<?x?x1xi64>) -> tensor<?x?x1xf32>
  %freq = onnx.constant "inv_freq" dense<[1.0, 0.1, 0.01, 0.001]> : tensor<4xf32> : tensor<4xf32>
  %ang = onnx.node "Mul" "ang"(%pf, %freq) {} : (tensor<?x?x1xf32>, tensor<4xf32>) -> tensor<?x?x4xf32>
  %aa = onnx.node "Concat" "aa"(%ang, %ang) {axis = -1 : i64} : (tensor<?x?x4xf32>, tensor<?x?x4xf32>) -> tensor<?x?x8xf32>
  %ax1 = onnx.constant "ax1" dense<1> : tensor<1xi64> : tensor<1xi64>
  %cos = onnx.node "Cos" "cos"(%aa) {} : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %cos4 = onnx.node "Unsqueeze" "cos4"(%cos, %ax1) {} : (tensor<?x?x8xf32>, tensor<1xi64>) -> tensor<?x1x?x8xf32>
  %sin = onnx.node "Sin" "sin"(%aa) {} : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %sin4 = onnx.node "Unsqueeze" "sin4"(%sin, %ax1) {} : (tensor<?x?x8xf32>, tensor<1xi64>) -> tensor<?x1x?x8xf32>
  %turnf = onnx.constant "turnf" dense<0> : tensor<1xi64> : tensor<1xi64>
  %turnt = onnx.constant "turnt" dense<8> : tensor<1xi64> : tensor<1xi64>
  %turna = onnx.constant "turna" dense<3> : tensor<1xi64> : tensor<1xi64>
  %turn = onnx.node "Slice" "turn"(%q, %turnf, %turnt, %turna) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %stayf = onnx.constant "stayf" dense<8> : tensor<1xi64> : tensor<1xi64>
  %stayt = onnx.constant "stayt" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %staya = onnx.constant "staya" dense<3> : tensor<1xi64> : tensor<1xi64>
  %stay = onnx.node "Slice" "stay"(%q, %stayf, %stayt, %staya) {} : (tensor<?x2x?x16xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x8xf32>
  %lof = onnx.constant "lof" dense<0> : tensor<1xi64> : tensor<1xi64>
  %lot = onnx.constant "lot" dense<4> : tensor<1xi64> : tensor<1xi64>
  %loa = onnx.constant "loa" dense<3> : tensor<1xi64> : tensor<1xi64>
  %lo = onnx.node "Slice" "lo"(%turn, %lof, %lot, %loa) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x4xf32>
  %hif = onnx.constant "hif" dense<4> : tensor<1xi64> : tensor<1xi64>
  %hit = onnx.constant "hit" dense<4611686018427387904> : tensor<1xi64> : tensor<1xi64>
  %hia = onnx.constant "hia" dense<3> : tensor<1xi64> : tensor<1xi64>
  %hi = onnx.node "Slice" "hi"(%turn, %hif, %hit, %hia) {} : (tensor<?x2x?x8xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x2x?x4xf32>
  %neg = onnx.node "Neg" "neg"(%hi) {} : (tensor<?x2x?x4xf32>) -> tensor<?x2x?x4xf32>
  %rot = onnx.node "Concat" "rot"(%neg, %lo) {axis = -1 : i64} : (tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) -> tensor<?x2x?x8xf32>
  %m1 = onnx.node "Mul" "m1"(%turn, %cos4) {} : (tensor<?x2x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x2x?x8xf32>
  %m2 = onnx.node "Mul" "m2"(%rot, %sin4) {} : (tensor<?x2x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x2x?x8xf32>
  %t = onnx.node "Add" "t"(%m1, %m2) {} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x8xf32>
  %r = onnx.node "Concat" "r"(%t, %turn) {axis = -1 : i64} : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
