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

// Learned positions: the table's row is the token's position, here two further on.
// CHECK-LABEL: func.func @main
// CHECK: slm.embedding %arg0, %{{.*}} {name = "embed", position_offset = 2 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "table" {id = 0 : i64} : tensor<256x32xf32>
  %two = onnx.constant "two" dense<2> : tensor<i64> : tensor<i64>
  %at = onnx.node "Add" "at"(%pos, %two) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi64>
  %x = onnx.node "Gather" "embed"(%table, %at) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %x : tensor<?x?x32xf32>
}
}

// -----

// Positions counted from the mask, and their sum with the tokens' embeddings.
// CHECK-LABEL: func.func @main
// CHECK: %[[P:.*]] = slm.embedding %arg0, %{{.*}} {name = "positions", position_offset = 0 : i64}
// CHECK: %[[X:.*]] = slm.embedding %arg0, %{{.*}} {name = "tokens"}
// CHECK: slm.add %[[X]], %[[P]]
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "table" {id = 0 : i64} : tensor<256x32xf32>
  %one = onnx.constant "one" dense<1> : tensor<i64> : tensor<i64>
  %axis = onnx.constant "axis" dense<1> : tensor<1xi64> : tensor<1xi64>
  %end = onnx.constant "end" dense<9223372036854775807> : tensor<1xi64> : tensor<1xi64>
  %count = onnx.node "CumSum" "count"(%mask, %one) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi64>
  %all = onnx.node "Sub" "all"(%count, %one) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi64>
  %s = onnx.node "Shape" "s"(%ids) {start = 1 : i64, end = 2 : i64} : (tensor<?x?xi64>) -> tensor<1xi64>
  %from = onnx.node "Neg" "from"(%s) {} : (tensor<1xi64>) -> tensor<1xi64>
  %at = onnx.node "Slice" "at"(%all, %from, %end, %axis) {} : (tensor<?x?xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x?xi64>
  %p = onnx.node "Gather" "positions"(%table, %at) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %words = onnx.weight "words" {id = 1 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "tokens"(%words, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %y = onnx.node "Add" "y"(%x, %p) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Positions that go in steps of two are none.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.embedding
// CHECK: onnx.node "Gather" "embed"{{.*}}raise.why = "the indices are neither the graph's input_ids nor the tokens' positions"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %pos: tensor<?x?xi64> {onnx.name = "position_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "table" {id = 0 : i64} : tensor<256x32xf32>
  %two = onnx.constant "two" dense<2> : tensor<i64> : tensor<i64>
  %at = onnx.node "Mul" "at"(%pos, %two) {} : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi64>
  %x = onnx.node "Gather" "embed"(%table, %at) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %x : tensor<?x?x32xf32>
}
}
