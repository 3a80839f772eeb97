// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: slm.layer_norm %{{.*}}, %{{.*}}, %{{.*}} {epsilon = {{1.0+[Ee]-05|9.9+.*E-6}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<32xf32>
  %y = onnx.node "LayerNormalization" "y"(%x, %w, %b) {axis = -1 : i64, epsilon = 9.99999974E-6 : f32} : (tensor<?x?x32xf32>, tensor<32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Written out, with a bias.
// CHECK-LABEL: func.func @main
// CHECK: slm.layer_norm %{{.*}}, %{{.*}}, %{{.*}} {epsilon = {{1.0+[Ee]-05|9.9+.*E-6}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %b = onnx.weight "b" {id = 2 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<1.0E-5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sq = onnx.node "Pow" "sq"(%d, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %var = onnx.node "ReduceMean" "var"(%sq, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%var, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Div" "n"(%d, %root) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %m = onnx.node "Mul" "m"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Add" "y"(%m, %b) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Cohere has no bias; the mean is subtracted all the same.
// CHECK-LABEL: func.func @main
// CHECK: slm.layer_norm %{{.*}}, %{{.*}} {epsilon
// CHECK-NOT: slm.rms_norm
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<1.0E-5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sq = onnx.node "Pow" "sq"(%d, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %var = onnx.node "ReduceMean" "var"(%sq, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%var, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Div" "n"(%d, %root) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %m = onnx.node "Mul" "m"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %m : tensor<?x?x32xf32>
}
}

// -----

// The mean added is no norm.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.layer_norm
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<1.0E-5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Add" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sq = onnx.node "Pow" "sq"(%d, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %var = onnx.node "ReduceMean" "var"(%sq, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%var, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Div" "n"(%d, %root) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %m = onnx.node "Mul" "m"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %m : tensor<?x?x32xf32>
}
}

// -----


// The same with the inverse root multiplied.
// CHECK-LABEL: func.func @main
// CHECK: slm.layer_norm %{{.*}}, %{{.*}} {epsilon
// CHECK-NOT: slm.rms_norm
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<1.0E-5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sq = onnx.node "Pow" "sq"(%d, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %var = onnx.node "ReduceMean" "var"(%sq, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%var, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %inv = onnx.node "Reciprocal" "inv"(%root) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Mul" "n"(%d, %inv) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %m = onnx.node "Mul" "m"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %m : tensor<?x?x32xf32>
}
}

// -----


// Not centred above the root: neither norm.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.layer_norm
// CHECK-NOT: slm.rms_norm
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<1.0E-5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %sq = onnx.node "Pow" "sq"(%d, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %var = onnx.node "ReduceMean" "var"(%sq, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%var, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %inv = onnx.node "Reciprocal" "inv"(%root) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Mul" "n"(%x, %inv) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %m = onnx.node "Mul" "m"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %m : tensor<?x?x32xf32>
}
}

// -----

// The deviation as the root mean square of what is centred (Cohere, opset 23).
// CHECK-LABEL: func.func @main
// CHECK: slm.layer_norm %{{.*}}, %{{.*}} {epsilon
// CHECK-NOT: slm.rms_norm
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %other = onnx.node "Relu" "other"(%x) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%x, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "RMSNormalization" "y"(%d, %w) {axis = -1 : i64, epsilon = 1.0E-5 : f32, stash_type = 1 : i64} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// The mean of something else centres nothing.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.layer_norm
// CHECK-NOT: slm.rms_norm
// CHECK: onnx.node "RMSNormalization"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %other = onnx.node "Relu" "other"(%x) {} : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %mean = onnx.node "ReduceMean" "mean"(%other, %axes) {} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %d = onnx.node "Sub" "d"(%x, %mean) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "RMSNormalization" "y"(%d, %w) {axis = -1 : i64, epsilon = 1.0E-5 : f32, stash_type = 1 : i64} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}
