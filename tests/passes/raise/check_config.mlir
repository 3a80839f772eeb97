// RUN: smelt-opt %s --check-config=path=%S/check_config.json 2>&1 | FileCheck %s
// RUN: smelt-opt %s --check-config=path=%S/absent.json 2>&1 | FileCheck %s --check-prefix=NONE

// The graph is compiled as it stands; both values are named. Its rotary base is the config's.
// CHECK-DAG: warning: sliding_window is 512 in {{.*}}check_config.json but 0 in the graph; the graph is compiled
// CHECK-DAG: warning: attn_logit_softcapping is 50 in {{.*}} but 30 in the graph
// CHECK-DAG: warning: the norms' epsilon is 1e-05 in {{.*}} but 1e-06 in the graph
// CHECK-NOT: rope_theta
// NONE-NOT: warning
func.func @main(%ids: tensor<?xi32>) -> tensor<?x16xf32> {
  %t = slm.weight "t" {id = 0 : i64, row_stride = 16 : i64} : tensor<64x16xf32>
  %w = slm.weight "w" {id = 1 : i64, row_stride = 16 : i64} : tensor<1x16xf32>
  %x = slm.embedding %ids, %t {name = "e"} : tensor<?xi32>, tensor<64x16xf32> -> tensor<?x16xf32>
  %n = slm.rms_norm %x, %w {epsilon = 1.0e-6 : f64} : tensor<?x16xf32>, tensor<1x16xf32> -> tensor<?x16xf32>
  %c = slm.rotary_table {inv_freq = array<f64: 1.0, 0.01>, is_sin = false} : tensor<?x2xf32>
  %s = slm.rotary_table {inv_freq = array<f64: 1.0, 0.01>, is_sin = true} : tensor<?x2xf32>
  %q = slm.rope %n, %c, %s {head_dim = 4 : i64, rotary_dim = 4 : i64} : tensor<?x16xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  %a = slm.attention %q, %q, %n {heads = 4 : i64, kv_heads = 4 : i64, head_dim = 4 : i64, scale = 0.5 : f64, softcap = 30.0 : f64, layer = 0 : i64} : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  return %a : tensor<?x16xf32>
}
