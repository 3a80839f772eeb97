// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation silu %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %s = onnx.node "Sigmoid" "s"(%x) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%x, %s) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation gelu_tanh %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %c3 = onnx.constant "c3" dense<3.0> : tensor<f32> : tensor<f32>
  %c = onnx.constant "c" dense<0.0447149985> : tensor<f32> : tensor<f32>
  %k = onnx.constant "k" dense<0.797884583> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %p = onnx.node "Pow" "p"(%x, %c3) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %q = onnx.node "Mul" "q"(%p, %c) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %r = onnx.node "Add" "r"(%x, %q) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %s = onnx.node "Mul" "s"(%r, %k) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %t = onnx.node "Tanh" "t"(%s) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %u = onnx.node "Add" "u"(%t, %one) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %v = onnx.node "Mul" "v"(%x, %u) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%v, %half) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation gelu_tanh %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %y = onnx.node "Gelu" "y"(%x) {approximate = "tanh"} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation gelu_erf %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %root = onnx.constant "root" dense<1.41421354> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %d = onnx.node "Div" "d"(%x, %root) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %e = onnx.node "Erf" "e"(%d) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %u = onnx.node "Add" "u"(%e, %one) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %h = onnx.node "Mul" "h"(%x, %half) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%h, %u) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Another order of the same.
// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation gelu_erf %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %root = onnx.constant "root" dense<0.707106769> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<0.5> : tensor<f32> : tensor<f32>
  %d = onnx.node "Mul" "d"(%x, %root) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %e = onnx.node "Erf" "e"(%d) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %u = onnx.node "Add" "u"(%e, %one) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %h = onnx.node "Mul" "h"(%x, %u) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%h, %half) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: %[[Y:.*]] = slm.activation relu2 %[[X]] :
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %r = onnx.node "Relu" "r"(%x) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Pow" "y"(%r, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: slm.softcap %{{.*}} {cap = 3.000000e+01 : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %cap = onnx.constant "cap" dense<30.0> : tensor<f32> : tensor<f32>
  %d = onnx.node "Div" "d"(%x, %cap) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %t = onnx.node "Tanh" "t"(%d) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%t, %cap) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Scaled down by another factor than up: tanh is the softcap of 1.
// CHECK-LABEL: func.func @main
// CHECK: %[[T:.*]] = slm.softcap %{{.*}} {cap = 1.000000e+00 : f64}
// CHECK: slm.scale %[[T]] {factor = 1.500000e+01 : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %cap = onnx.constant "cap" dense<30.0> : tensor<f32> : tensor<f32>
  %two = onnx.constant "two" dense<15.0> : tensor<f32> : tensor<f32>
  %d = onnx.node "Div" "d"(%x, %cap) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %t = onnx.node "Tanh" "t"(%d) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%t, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// x sigmoid(1.702 x) is neither gelu nor silu.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.activation
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %a = onnx.constant "a" dense<1.702> : tensor<f32> : tensor<f32>
  %z = onnx.node "Mul" "z"(%x, %a) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %s = onnx.node "Sigmoid" "s"(%z) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%x, %s) {} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// A product with 1 vanishes.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.scale
// CHECK: return
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %y = onnx.node "Mul" "y"(%x, %one) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
