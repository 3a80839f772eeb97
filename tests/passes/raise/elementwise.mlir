// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// activation(gate) * up, in either order.
// CHECK-LABEL: func.func @main
// CHECK: %[[G:.*]] = slm.linear %{{.*}} {name = "gate"}
// CHECK: %[[U:.*]] = slm.linear %{{.*}} {name = "up"}
// CHECK: slm.gated silu %[[G]], %[[U]]
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %g = onnx.weight "g" {id = 1 : i64} : tensor<32x48xf32>
  %u = onnx.weight "u" {id = 2 : i64} : tensor<32x48xf32>
  %gate = onnx.node "MatMul" "gate"(%x, %g) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %up = onnx.node "MatMul" "up"(%x, %u) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %s = onnx.node "Sigmoid" "s"(%gate) {} : (tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  %a = onnx.node "Mul" "a"(%gate, %s) {} : (tensor<?x?x48xf32>, tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  %y = onnx.node "Mul" "y"(%up, %a) {} : (tensor<?x?x48xf32>, tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: slm.mul
// CHECK: slm.add
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x48xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %g = onnx.weight "g" {id = 1 : i64} : tensor<32x48xf32>
  %u = onnx.weight "u" {id = 2 : i64} : tensor<32x48xf32>
  %gate = onnx.node "MatMul" "gate"(%x, %g) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %up = onnx.node "MatMul" "up"(%x, %u) {} : (tensor<?x?x32xf32>, tensor<32x48xf32>) -> tensor<?x?x48xf32>
  %m = onnx.node "Mul" "m"(%gate, %up) {} : (tensor<?x?x48xf32>, tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  %y = onnx.node "Add" "y"(%m, %up) {} : (tensor<?x?x48xf32>, tensor<?x?x48xf32>) -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
}
