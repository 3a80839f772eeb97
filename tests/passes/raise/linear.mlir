// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// [K, N] storage is a view of [N, K].
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = slm.weight "k" {col_stride = 48 : i64, id = 1 : i64, row_stride = 1 : i64} : tensor<48x32xf32>
// CHECK: slm.linear %{{.*}}, [%[[W]]] {name = "proj"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %k = onnx.weight "k" {id = 1 : i64} : tensor<32x48xf32>
  %y = onnx.node "MatMul" "proj"(%x, %k) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: slm.linear %{{.*}}, [%{{.*}}] bias %{{.*}} {name = "proj"}
// CHECK-NOT: slm.linear
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %k = onnx.weight "k" {id = 1 : i64} : tensor<32x48xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<48xf32>
  %m = onnx.node "MatMul" "proj"(%x, %k) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %y = onnx.node "Add" "add"(%b, %m) {} : (tensor<48xf32>, tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}

// -----

// Gemm on flattened rows.
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = slm.weight "n" {id = 1 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
// CHECK: slm.linear %{{.*}}, [%[[W]]] bias
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %two = onnx.constant "two" dense<[-1, 32]> : tensor<2xi64> : tensor<2xi64>
  %f = onnx.node "Reshape" "f"(%x, %two) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<2xi64>) -> tensor<?x32xf32>
  %n = onnx.weight "n" {id = 1 : i64} : tensor<48x32xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<48xf32>
  %g = onnx.node "Gemm" "proj"(%f, %n, %b) {transB = 1 : i64} : (tensor<?x32xf32>, tensor<48x32xf32>, tensor<48xf32>) -> tensor<?x48xf32>
  return %g : tensor<?x48xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Gemm" "proj"{{.*}}raise.why = "alpha is not 1"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %two = onnx.constant "two" dense<[-1, 32]> : tensor<2xi64> : tensor<2xi64>
  %f = onnx.node "Reshape" "f"(%x, %two) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<2xi64>) -> tensor<?x32xf32>
  %n = onnx.weight "n" {id = 1 : i64} : tensor<48x32xf32>
  %g = onnx.node "Gemm" "proj"(%f, %n) {transB = 1 : i64, alpha = 0.5 : f32} : (tensor<?x32xf32>, tensor<48x32xf32>) -> tensor<?x48xf32>
  return %g : tensor<?x48xf32>
}
}

// -----

// Names are keys: unique.
// CHECK-LABEL: func.func @main
// CHECK: slm.linear %{{.*}} {name = "same"}
// CHECK: slm.linear %{{.*}} {name = "same#2"}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %k = onnx.weight "k" {id = 1 : i64} : tensor<32x32xf32>
  %a = onnx.node "MatMul" "same"(%x, %k) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "MatMul" "same"(%a, %k) {} : (tensor<?x?x32xf32>, tensor<32x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// onnxruntime's product with the transpose of a tied table.
// CHECK-LABEL: func.func @main
// CHECK: slm.weight "n" {id = 1 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
// CHECK: slm.linear %{{.*}} {name = "head"}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %n = onnx.weight "n" {id = 1 : i64} : tensor<48x32xf32>
  %y = onnx.node "FusedMatMul" "head"(%x, %n) {transA = 0 : i64, transB = 1 : i64, alpha = 1.0 : f32} attributes {domain = "com.microsoft"} : (tensor<?x?x32xf32>, tensor<48x32xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "FusedMatMul" "head"{{.*}}raise.why = "alpha is not 1"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %n = onnx.weight "n" {id = 1 : i64} : tensor<48x32xf32>
  %y = onnx.node "FusedMatMul" "head"(%x, %n) {transA = 0 : i64, transB = 1 : i64, alpha = 0.5 : f32} attributes {domain = "com.microsoft"} : (tensor<?x?x32xf32>, tensor<48x32xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}
