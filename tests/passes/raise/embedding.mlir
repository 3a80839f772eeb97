// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>) -> tensor<?x32xf32>
// CHECK: %[[T:.*]] = slm.weight "embed" {id = 0 : i64, row_stride = 32 : i64} : tensor<256x32xf32>
// CHECK: slm.embedding %arg0, %[[T]] {name = "embed"}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %x : tensor<?x?x32xf32>
}
}

// -----

// Gemma scales the embedding.
// CHECK-LABEL: func.func @main
// CHECK: slm.embedding %arg0, %{{.*}} {name = "embed", scale = 8.000000e+00 : f64}
// CHECK-NOT: slm.scale
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %eight = onnx.constant "eight" dense<8.0> : tensor<f32> : tensor<f32>
  %y = onnx.node "Mul" "y"(%x, %eight) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A table stored transposed, as a tied head is, stays a view of the one initializer.
// CHECK-LABEL: func.func @main
// CHECK: slm.weight "embed" {col_stride = 256 : i64, id = 0 : i64, row_stride = 1 : i64} : tensor<256x32xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %embed = onnx.weight "embed" {id = 0 : i64} : tensor<32x256xf32>
  %t = onnx.node "Transpose" "t"(%embed) {perm = array<i64: 1, 0>} : (tensor<32x256xf32>) -> tensor<256x32xf32>
  %x = onnx.node "Gather" "e"(%t, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %x : tensor<?x?x32xf32>
}
}

// -----

// A table of positions is no token embedding.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.embedding
// CHECK: onnx.node "Gather" "embed"{{.*}}raise.why = "the indices are not the graph's input_ids"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "table" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %pos) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %x : tensor<?x?x32xf32>
}
}
