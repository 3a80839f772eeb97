// RUN: smelt-opt %s --tensorize --check-tensor --split-input-file | FileCheck %s

// A product with a stored matrix [K, N] is a linear over its transpose, on rows; a vector bias joins it.
// CHECK-LABEL: func.func @main
// CHECK: %[[R:.*]] = onnx.node "Reshape" "y"(%arg0, %{{.*}}) {allowzero = 0 : i64} : {{.*}} -> tensor<?x32xf32>
// CHECK: %[[W:.*]] = slm.weight "w" {col_stride = 8 : i64, id = 1 : i64, {{.*}}row_stride = 1 : i64} : tensor<8x32xf32>
// CHECK: %[[L:.*]] = slm.linear %[[R]], [%[[W]]] {name = "y"}
// CHECK: onnx.node "Reshape" "y"(%[[L]], %{{.*}}) {allowzero = 1 : i64} : {{.*}} -> tensor<?x?x8xf32>
module {
func.func @main(%x: tensor<?x?x32xf32> {onnx.name = "x"}) -> (tensor<?x?x8xf32>) {
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32x8xf16>
  %y = onnx.node "MatMul" "y"(%x, %w) {} : (tensor<?x?x32xf32>, tensor<32x8xf16>) -> tensor<?x?x8xf32>
  return %y : tensor<?x?x8xf32>
}
}

// -----

// The same through a transposed initializer, and with the bias of a Gemm.
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = slm.weight "w" {id = 1 : i64, {{.*}}row_stride = 32 : i64} : tensor<8x32xf32>
// CHECK: %[[B:.*]] = slm.weight "b" {id = 2 : i64, row_stride = 8 : i64} : tensor<1x8xf32>
// CHECK: slm.linear %arg0, [%[[W]]] bias %[[B]] {name = "y"}
module {
func.func @main(%x: tensor<?x32xf32> {onnx.name = "x"}) -> (tensor<?x8xf32>) {
  %w = onnx.weight "w" {id = 1 : i64} : tensor<8x32xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<8xf32>
  %y = onnx.node "Gemm" "y"(%x, %w, %b) {transB = 1 : i64} : (tensor<?x32xf32>, tensor<8x32xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
}

// -----

// Near miss: two computed matrices are multiplied as they are.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.linear
// CHECK: onnx.node "MatMul" "y"(%arg0, %arg1)
module {
func.func @main(%x: tensor<?x?x32xf32> {onnx.name = "x"}, %w: tensor<32x8xf32> {onnx.name = "w"}) -> (tensor<?x?x8xf32>) {
  %y = onnx.node "MatMul" "y"(%x, %w) {} : (tensor<?x?x32xf32>, tensor<32x8xf32>) -> tensor<?x?x8xf32>
  return %y : tensor<?x?x8xf32>
}
}

// -----

// Rows of a stored table are an embedding of checked ids.
// CHECK-LABEL: func.func @main
// CHECK: %[[C:.*]] = onnx.node "Gather" "y"(%{{.*}}, %arg0) {axis = 0 : i64} : {{.*}} -> tensor<?x?xi32>
// CHECK: %[[I:.*]] = onnx.node "Reshape" "y"(%[[C]], %{{.*}})
// CHECK: slm.embedding %[[I]], %{{.*}} {name = "y"} : tensor<?xi32>, tensor<256x32xf32> -> tensor<?x32xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}) -> (tensor<?x?x32xf32>) {
  %t = onnx.weight "t" {id = 1 : i64} : tensor<256x32xf32>
  %y = onnx.node "Gather" "y"(%t, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
