"""The decoder of tests that train: it compiles in seconds."""

DECODER = {
  'DecoderConfig.embed_dim': 32,
  'DecoderConfig.num_layers': 2,
  'DecoderConfig.num_heads': 2,
  'DecoderConfig.num_kv_heads': 1,
  'DecoderConfig.head_dim': 16,
  'DecoderConfig.mlp_dim': 48,
  'DecoderConfig.scan_unroll': 1,
}
