// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// Tables that the graph computes; half of the head turns.
// CHECK-LABEL: func.func @main
// CHECK: %[[C:.*]] = slm.rotary_table {inv_freq = array<f64: 1.000000e+00, 0.1{{[0-9]*}}, {{.*}}>, is_sin = false} : tensor<?x4xf32>
// CHECK: %[[S:.*]] = slm.rotary_table {inv_freq = {{.*}}, is_sin = true} : tensor<?x4xf32>
// CHECK: slm.rope %{{.*}}, %[[C]], %[[S]] {head_dim = 16 : i64, rotary_dim = 8 : i64}
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
  %cos = onnx.node "Cos" "cos"(%ang) {} : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
  %sin = onnx.node "Sin" "sin"(%ang) {} : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
  %r = onnx.node "RotaryEmbedding" "r"(%q, %cos, %sin) {interleaved = 0 : i64, num_heads = 2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Stored tables and positions.
// CHECK-LABEL: func.func @main
// CHECK: slm.rope %{{.*}}, %{{.*}}, %{{.*}} {head_dim = 16 : i64, interleaved = true, rotary_dim = 8 : i64} : tensor<?x32xf32>, tensor<64x4xf32>, tensor<64x4xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %ct = onnx.weight "ct" {id = 1 : i64} : tensor<64x4xf32>
  %st = onnx.weight "st" {id = 2 : i64} : tensor<64x4xf32>
  %y = onnx.node "RotaryEmbedding" "r"(%x, %pos, %ct, %st) {interleaved = 1 : i64, num_heads = 2 : i64} attributes {domain = "com.microsoft"} : (tensor<?x?x32xf32>, tensor<?x?xi64>, tensor<64x4xf32>, tensor<64x4xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Angles that are not linear in the position.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.rope
// CHECK: raise.why = "cos and sin are not those of position * frequency for every position
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
  %sq = onnx.node "Mul" "sq"(%ang, %ang) {} : (tensor<?x?x4xf32>, tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
  %cos = onnx.node "Cos" "cos"(%sq) {} : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
  %sin = onnx.node "Sin" "sin"(%sq) {} : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
  %r = onnx.node "RotaryEmbedding" "r"(%q, %cos, %sin) {num_heads = 2 : i64} : (tensor<?x2x?x16xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>) -> tensor<?x2x?x16xf32>
  %s3 = onnx.constant "s3" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %u = onnx.node "Transpose" "u"(%r) {perm = array<i64: 0, 2, 1, 3>} : (tensor<?x2x?x16xf32>) -> tensor<?x?x2x16xf32>
  %y = onnx.node "Reshape" "y"(%u, %s3) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
