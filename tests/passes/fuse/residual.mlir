// RUN: smelt-opt %s --fuse-residual --split-input-file | FileCheck %s

// CHECK-LABEL: func @residual
// CHECK: %[[N:.*]] = slm.rms_norm %arg0
// CHECK: %[[Y:.*]] = slm.linear %arg0, [%{{.*}}] bias %{{.*}} residual %[[N]] {name = "o"}
// CHECK: return %[[Y]]
func.func @residual(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %b = slm.weight "b" {id = 1 : i64, row_stride = 32 : i64} : tensor<1x32xf32>
  %l = slm.linear %x, [%w] bias %b {name = "o"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %n = slm.rms_norm %x, %b {epsilon = 1.0e-5 : f64} : tensor<?x32xf32>, tensor<1x32xf32> -> tensor<?x32xf32>
  %y = slm.add %n, %l : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// CHECK-LABEL: func @read_twice
// CHECK: slm.add
func.func @read_twice(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %l = slm.linear %x, [%w] {name = "o"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %y = slm.add %x, %l : tensor<?x32xf32>
  %z = slm.mul %y, %l : tensor<?x32xf32>
  return %z : tensor<?x32xf32>
}

// -----

// A gated linear has its product as epilogue already.
// CHECK-LABEL: func @gated
// CHECK: slm.add
func.func @gated(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %l = slm.linear %x, [%w, %w] {name = "o", gated = 3 : i32} : tensor<?x32xf32>, [tensor<32x32xf32>, tensor<32x32xf32>] -> tensor<?x32xf32>
  %y = slm.add %x, %l : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
