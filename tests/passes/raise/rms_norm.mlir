// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %y = onnx.node "RMSNormalization" "y"(%x, %w) {axis = -1 : i64, epsilon = 9.99999997E-7 : f32, stash_type = 1 : i64} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %y = onnx.node "SimplifiedLayerNormalization" "y"(%x, %w) {axis = -1 : i64, epsilon = 9.99999997E-7 : f32, stash_type = 1 : i64} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Written out: reciprocal.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<9.99999997E-7> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<-0.5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sq = onnx.node "Pow" "sq"(%x, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %mean = onnx.node "ReduceMean" "mean"(%sq, %axes) {keepdims = 1 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%mean, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %inv = onnx.node "Reciprocal" "inv"(%root) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Mul" "n"(%x, %inv) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%w, %n) {} : (tensor<32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Written out: div.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<9.99999997E-7> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<-0.5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sq = onnx.node "Pow" "sq"(%x, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %mean = onnx.node "ReduceMean" "mean"(%sq, %axes) {keepdims = 1 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%mean, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %inv = onnx.node "Div" "inv"(%one, %root) {} : (tensor<f32>, tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Mul" "n"(%x, %inv) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%n, %w) {} : (tensor<?x?x32xf32>, tensor<32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Written out: pow.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<9.99999997E-7> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<-0.5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sq = onnx.node "Pow" "sq"(%x, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %mean = onnx.node "ReduceMean" "mean"(%sq, %axes) {keepdims = 1 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%mean, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %inv = onnx.node "Pow" "inv"(%v, %half) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Mul" "n"(%x, %inv) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%w, %n) {} : (tensor<32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Written out: divide.
// CHECK-LABEL: func.func @main(%arg0: tensor<?xi32>)
// CHECK: %[[X:.*]] = slm.select_rows
// CHECK: slm.rms_norm %[[X]], %{{.*}} {epsilon = {{1.0+[Ee]-06|9.9+.*E-7}} : f64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<9.99999997E-7> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<-0.5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<-1> : tensor<1xi64> : tensor<1xi64>
  %sq = onnx.node "Pow" "sq"(%x, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %mean = onnx.node "ReduceMean" "mean"(%sq, %axes) {keepdims = 1 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
  %v = onnx.node "Add" "v"(%mean, %eps) {} : (tensor<?x?x1xf32>, tensor<f32>) -> tensor<?x?x1xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x?x1xf32>) -> tensor<?x?x1xf32>
  %n = onnx.node "Div" "n"(%x, %root) {} : (tensor<?x?x32xf32>, tensor<?x?x1xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%w, %n) {} : (tensor<32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Mean over the sequence: not a norm of rows.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.rms_norm
// CHECK: onnx.node "ReduceMean"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<32xf32>
  %two = onnx.constant "two" dense<2.0> : tensor<f32> : tensor<f32>
  %eps = onnx.constant "eps" dense<9.99999997E-7> : tensor<f32> : tensor<f32>
  %one = onnx.constant "one" dense<1.0> : tensor<f32> : tensor<f32>
  %half = onnx.constant "half" dense<-0.5> : tensor<f32> : tensor<f32>
  %axes = onnx.constant "axes" dense<1> : tensor<1xi64> : tensor<1xi64>
  %sq = onnx.node "Pow" "sq"(%x, %two) {} : (tensor<?x?x32xf32>, tensor<f32>) -> tensor<?x?x32xf32>
  %mean = onnx.node "ReduceMean" "mean"(%sq, %axes) {keepdims = 1 : i64} : (tensor<?x?x32xf32>, tensor<1xi64>) -> tensor<?x1x32xf32>
  %v = onnx.node "Add" "v"(%mean, %eps) {} : (tensor<?x1x32xf32>, tensor<f32>) -> tensor<?x1x32xf32>
  %root = onnx.node "Sqrt" "root"(%v) {} : (tensor<?x1x32xf32>) -> tensor<?x1x32xf32>
  %inv = onnx.node "Reciprocal" "inv"(%root) {} : (tensor<?x1x32xf32>) -> tensor<?x1x32xf32>
  %n = onnx.node "Mul" "n"(%x, %inv) {} : (tensor<?x?x32xf32>, tensor<?x1x32xf32>) -> tensor<?x?x32xf32>
  %y = onnx.node "Mul" "y"(%w, %n) {} : (tensor<32xf32>, tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Over each head.
// CHECK-LABEL: func.func @main
// CHECK: slm.head_norm %{{.*}}, %{{.*}} {epsilon = {{.*}}, head_dim = 16 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %shape = onnx.constant "shape" dense<[0, 0, 2, 16]> : tensor<4xi64> : tensor<4xi64>
  %h = onnx.node "Reshape" "h"(%x, %shape) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<4xi64>) -> tensor<?x?x2x16xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<16xf32>
  %n = onnx.node "RMSNormalization" "n"(%h, %w) {axis = -1 : i64, epsilon = 1.0E-6 : f32} : (tensor<?x?x2x16xf32>, tensor<16xf32>) -> tensor<?x?x2x16xf32>
  %flat = onnx.constant "flat" dense<[0, 0, 32]> : tensor<3xi64> : tensor<3xi64>
  %y = onnx.node "Reshape" "y"(%n, %flat) {allowzero = 0 : i64} : (tensor<?x?x2x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Over each head, heads and tokens as one axis (onnxruntime-genai).
// CHECK-LABEL: func.func @main
// CHECK: slm.head_norm %{{.*}}, %{{.*}} {epsilon = {{.*}}, head_dim = 16 : i64}
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %shape = onnx.constant "shape" dense<[0, -1, 16]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %shape) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<3xi64>) -> tensor<?x?x16xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<16xf32>
  %n = onnx.node "SimplifiedLayerNormalization" "n"(%h, %w) {axis = -1 : i64, epsilon = 1.0E-6 : f32, stash_type = 1 : i64} : (tensor<?x?x16xf32>, tensor<16xf32>) -> tensor<?x?x16xf32>
  %flat = onnx.constant "flat" dense<[0, -1, 32]> : tensor<3xi64> : tensor<3xi64>
  %y = onnx.node "Reshape" "y"(%n, %flat) {allowzero = 0 : i64} : (tensor<?x?x16xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
}

// -----

// Put together to other rows than it was taken from.
// CHECK-LABEL: func.func @main
// CHECK-NOT: slm.head_norm
// CHECK: onnx.node "Reshape" "y"{{.*}}raise.why = "the norm between the reshapes is not over whole heads"
module {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}) -> (tensor<?x?x64xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %shape = onnx.constant "shape" dense<[0, -1, 16]> : tensor<3xi64> : tensor<3xi64>
  %h = onnx.node "Reshape" "h"(%x, %shape) {allowzero = 0 : i64} : (tensor<?x?x32xf32>, tensor<3xi64>) -> tensor<?x?x16xf32>
  %w = onnx.weight "w" {id = 1 : i64} : tensor<16xf32>
  %n = onnx.node "SimplifiedLayerNormalization" "n"(%h, %w) {axis = -1 : i64, epsilon = 1.0E-6 : f32, stash_type = 1 : i64} : (tensor<?x?x16xf32>, tensor<16xf32>) -> tensor<?x?x16xf32>
  %flat = onnx.constant "flat" dense<[0, -1, 64]> : tensor<3xi64> : tensor<3xi64>
  %y = onnx.node "Reshape" "y"(%n, %flat) {allowzero = 0 : i64} : (tensor<?x?x16xf32>, tensor<3xi64>) -> tensor<?x?x64xf32>
  return %y : tensor<?x?x64xf32>
}
}
