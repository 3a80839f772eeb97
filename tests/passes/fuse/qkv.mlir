// RUN: smelt-opt %s --fuse-qkv --split-input-file | FileCheck %s

// CHECK-LABEL: func @merged
// CHECK: %[[QKV:.*]] = slm.linear %arg0, [%{{.*}}, %{{.*}}, %{{.*}}] {name = "layers.0.q_proj+k_proj+v_proj"} : tensor<?x32xf32>, [tensor<32x32xf32>, tensor<16x32xf32>, tensor<16x32xf32>] -> tensor<?x64xf32>
// CHECK: %[[Q:.*]] = slm.slice %[[QKV]] {first = 0 : i64} : tensor<?x64xf32> -> tensor<?x32xf32>
// CHECK: %[[K:.*]] = slm.slice %[[QKV]] {first = 32 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
// CHECK: %[[V:.*]] = slm.slice %[[QKV]] {first = 48 : i64} : tensor<?x64xf32> -> tensor<?x16xf32>
// CHECK: %[[N:.*]] = slm.head_norm %[[K]]
// CHECK: slm.attention %[[Q]], %[[N]], %[[V]]
func.func @merged(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %wq = slm.weight "q" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %wk = slm.weight "k" {id = 1 : i64, row_stride = 32 : i64} : tensor<16x32xf32>
  %wv = slm.weight "v" {id = 2 : i64, row_stride = 32 : i64} : tensor<16x32xf32>
  %w = slm.weight "n" {id = 3 : i64, row_stride = 16 : i64} : tensor<1x16xf32>
  %q = slm.linear %x, [%wq] {name = "layers.0.q_proj"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %k = slm.linear %x, [%wk] {name = "layers.0.k_proj"} : tensor<?x32xf32>, [tensor<16x32xf32>] -> tensor<?x16xf32>
  %v = slm.linear %x, [%wv] {name = "layers.0.v_proj"} : tensor<?x32xf32>, [tensor<16x32xf32>] -> tensor<?x16xf32>
  %n = slm.head_norm %k, %w {head_dim = 16 : i64, epsilon = 1.0e-6 : f64} : tensor<?x16xf32>, tensor<1x16xf32> -> tensor<?x16xf32>
  %a = slm.attention %q, %n, %v {heads = 2 : i64, kv_heads = 1 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// Values of another input than the queries stay apart (cross attention).
// CHECK-LABEL: func @two_inputs
// CHECK-COUNT-3: slm.linear
// CHECK-NOT: slm.slice
func.func @two_inputs(%x: tensor<?x32xf32>, %y: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %wq = slm.weight "q" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %q = slm.linear %x, [%wq] {name = "q"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %k = slm.linear %x, [%wq] {name = "k"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %v = slm.linear %y, [%wq] {name = "v"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 2 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// Biases that lie apart in the file are joined.
// CHECK-LABEL: func @biased
// CHECK: %[[B:.*]] = slm.join[%{{.*}}, %{{.*}}, %{{.*}}] : [tensor<1x32xf32>, tensor<1x32xf32>, tensor<1x32xf32>] -> tensor<1x96xf32>
// CHECK: slm.linear %arg0, [%{{.*}}, %{{.*}}, %{{.*}}] bias %[[B]] {name = "q+k+v"}
// CHECK-NOT: slm.linear
func.func @biased(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %b = slm.weight "b" {id = 1 : i64, row_stride = 32 : i64} : tensor<1x32xf32>
  %q = slm.linear %x, [%w] bias %b {name = "q"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %k = slm.linear %x, [%w] bias %b {name = "k"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %v = slm.linear %x, [%w] bias %b {name = "v"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 2 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// With a bias on some of them only, they stay three.
// CHECK-LABEL: func @partly_biased
// CHECK-COUNT-3: slm.linear
// CHECK-NOT: slm.join
func.func @partly_biased(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %b = slm.weight "b" {id = 1 : i64, row_stride = 32 : i64} : tensor<1x32xf32>
  %q = slm.linear %x, [%w] bias %b {name = "q"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %k = slm.linear %x, [%w] {name = "k"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %v = slm.linear %x, [%w] bias %b {name = "v"} : tensor<?x32xf32>, [tensor<32x32xf32>] bias tensor<1x32xf32> -> tensor<?x32xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 2 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// Packed one after the other in one format they are one matrix: 32 rows of 32 inputs in s8c take two tiles of 64 + 1024 bytes.
// CHECK-LABEL: func @packed
// CHECK: slm.linear %arg0, [%{{.*}}, %{{.*}}, %{{.*}}] {activation = "a8g32", format = "s8c", name = "q+k+v", packed_offset = 4096 : i64}
// CHECK-NOT: slm.linear
func.func @packed(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %q = slm.linear %x, [%w] {name = "q", format = "s8c", activation = "a8g32", packed_offset = 4096 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %k = slm.linear %x, [%w] {name = "k", format = "s8c", activation = "a8g32", packed_offset = 6272 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %v = slm.linear %x, [%w] {name = "v", format = "s8c", activation = "a8g32", packed_offset = 8448 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 2 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

// Not where another matrix lies between them, or the formats differ.
// CHECK-LABEL: func @packed_apart
// CHECK-COUNT-3: slm.linear
// CHECK-NOT: slm.slice
func.func @packed_apart(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %q = slm.linear %x, [%w] {name = "q", format = "s8c", activation = "a8g32", packed_offset = 4096 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %k = slm.linear %x, [%w] {name = "k", format = "s8c", activation = "a8g32", packed_offset = 6336 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %v = slm.linear %x, [%w] {name = "v", format = "a4g32", activation = "a8g32", packed_offset = 8512 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  %a = slm.attention %q, %k, %v {heads = 2 : i64, kv_heads = 2 : i64, head_dim = 16 : i64, scale = 0.25 : f64, layer = 0 : i64} : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}
