// RUN: smelt-opt %s --split-linear --split-input-file | FileCheck %s

// CHECK-LABEL: func @qkv
// CHECK: %[[WQ:.*]] = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
// CHECK: %[[BQ:.*]] = slm.weight "b" {id = 1 : i64, row_stride = 64 : i64} : tensor<1x32xf32>
// CHECK: %[[Q:.*]] = slm.linear %arg0, [%[[WQ]]] bias %[[BQ]] {name = "qkv[0:32]"}
// CHECK: slm.weight "w" {id = 0 : i64, offset = 1024 : i64, row_stride = 32 : i64} : tensor<16x32xf32>
// CHECK: slm.weight "b" {id = 1 : i64, offset = 32 : i64, row_stride = 64 : i64} : tensor<1x16xf32>
// CHECK: %[[K:.*]] = slm.linear {{.*}} {name = "qkv[32:48]"}
// CHECK: %[[V:.*]] = slm.linear {{.*}} {name = "qkv[48:64]"}
// CHECK-NOT: slm.slice
// CHECK: slm.attention %[[Q]], %[[K]], %[[V]]
func.func @qkv(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<64x32xf32>
  %b = slm.weight "b" {id = 1 : i64, row_stride = 64 : i64} : tensor<1x64xf32>
  %y = slm.linear %x, [%w] bias %b {name = "qkv"} : tensor<?x32xf32>, [tensor<64x32xf32>] bias tensor<1x64xf32> -> tensor<?x64xf32>
  %v = slm.slice %y {first = 48 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
  %q = slm.slice %y {first = 0 : i64} : tensor<?x64xf32> -> tensor<?x32xf32>
  %k = slm.slice %y {first = 32 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 1 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// Stored as [in, out]: rows are columns of the file.
// CHECK-LABEL: func @transposed
// CHECK: slm.weight "w" {col_stride = 48 : i64, id = 0 : i64, offset = 32 : i64, row_stride = 1 : i64} : tensor<16x32xf32>
func.func @transposed(%x: tensor<?x32xf32>) -> tensor<?x16xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 1 : i64, col_stride = 48 : i64} : tensor<48x32xf32>
  %y = slm.linear %x, [%w] {name = "y"} : tensor<?x32xf32>, [tensor<48x32xf32>] -> tensor<?x48xf32>
  %a = slm.slice %y {first = 0 : i64} : tensor<?x48xf32> -> tensor<?x16xf32>
  %b = slm.slice %y {first = 16 : i64} : tensor<?x48xf32> -> tensor<?x16xf32>
  %c = slm.slice %y {first = 32 : i64} : tensor<?x48xf32> -> tensor<?x16xf32>
  %s = slm.add %a, %b : tensor<?x16xf32>
  %t = slm.add %s, %c : tensor<?x16xf32>
  return %t : tensor<?x16xf32>
}

// -----

// Read as a whole as well, or with a gap, it stays.
// CHECK-LABEL: func @whole
// CHECK-COUNT-1: slm.linear
// CHECK-LABEL: func @gap
// CHECK-COUNT-1: slm.linear
func.func @whole(%x: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %y = slm.linear %x, [%w] {name = "y"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %a = slm.slice %y {first = 0 : i64} : tensor<?x32xf32> -> tensor<?x16xf32>
  %b = slm.slice %y {first = 16 : i64} : tensor<?x32xf32> -> tensor<?x16xf32>
  return %y, %a, %b : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}
func.func @gap(%x: tensor<?x32xf32>) -> (tensor<?x8xf32>, tensor<?x16xf32>) {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %y = slm.linear %x, [%w] {name = "y"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %a = slm.slice %y {first = 0 : i64} : tensor<?x32xf32> -> tensor<?x8xf32>
  %b = slm.slice %y {first = 16 : i64} : tensor<?x32xf32> -> tensor<?x16xf32>
  return %a, %b : tensor<?x8xf32>, tensor<?x16xf32>
}
