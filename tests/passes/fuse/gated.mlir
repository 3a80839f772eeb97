// RUN: smelt-opt %s --fuse-gated --split-input-file | FileCheck %s

// CHECK-LABEL: func @two_linears
// CHECK: slm.linear %arg0, [%{{.*}}, %{{.*}}] {gated = {{.*}}, name = "mlp/gate/MatMul+up/MatMul"} : tensor<?x32xf32>, [tensor<48x32xf32>, tensor<48x32xf32>] -> tensor<?x48xf32>
// CHECK-NOT: slm.gated
func.func @two_linears(%x: tensor<?x32xf32>) -> tensor<?x48xf32> {
  %wg = slm.weight "g" {id = 0 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  %wu = slm.weight "u" {id = 1 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  %g = slm.linear %x, [%wg] {name = "mlp/gate/MatMul"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %u = slm.linear %x, [%wu] {name = "mlp/up/MatMul"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %y = slm.gated silu %g, %u : tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// -----

// Phi-3 keeps gate and up in one weight: two views of it. [K, N] storage: rows lie one element apart.
// CHECK-LABEL: func @halves
// CHECK-DAG: %[[G:.*]] = slm.weight "gu" {col_stride = 96 : i64, id = 0 : i64, row_stride = 1 : i64} : tensor<48x32xf32>
// CHECK-DAG: %[[U:.*]] = slm.weight "gu" {col_stride = 96 : i64, id = 0 : i64, offset = 48 : i64, row_stride = 1 : i64} : tensor<48x32xf32>
// CHECK: slm.linear %arg0, [%[[G]], %[[U]]]
// CHECK-NOT: slm.slice
func.func @halves(%x: tensor<?x32xf32>) -> tensor<?x48xf32> {
  %w = slm.weight "gu" {id = 0 : i64, row_stride = 1 : i64, col_stride = 96 : i64} : tensor<96x32xf32>
  %gu = slm.linear %x, [%w] {name = "gate_up"} : tensor<?x32xf32>, [tensor<96x32xf32>] -> tensor<?x96xf32>
  %g = slm.slice %gu {first = 0 : i64} : tensor<?x96xf32> -> tensor<?x48xf32>
  %u = slm.slice %gu {first = 48 : i64} : tensor<?x96xf32> -> tensor<?x48xf32>
  %y = slm.gated gelu_tanh %g, %u : tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// -----

// A gate that something else reads too would have to be computed twice.
// CHECK-LABEL: func @shared_gate
// CHECK: slm.gated
func.func @shared_gate(%x: tensor<?x32xf32>) -> tensor<?x48xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  %g = slm.linear %x, [%w] {name = "g"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %u = slm.linear %x, [%w] {name = "u"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %y = slm.gated silu %g, %u : tensor<?x48xf32>
  %z = slm.add %y, %g : tensor<?x48xf32>
  return %z : tensor<?x48xf32>
}

// -----

// CHECK-LABEL: func @biased
// CHECK: slm.gated
func.func @biased(%x: tensor<?x32xf32>) -> tensor<?x48xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<48x32xf32>
  %b = slm.weight "b" {id = 1 : i64, row_stride = 48 : i64} : tensor<1x48xf32>
  %g = slm.linear %x, [%w] bias %b {name = "g"} : tensor<?x32xf32>, [tensor<48x32xf32>] bias tensor<1x48xf32> -> tensor<?x48xf32>
  %u = slm.linear %x, [%w] {name = "u"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %y = slm.gated silu %g, %u : tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}
