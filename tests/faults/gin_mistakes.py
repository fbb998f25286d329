"""Mistakes in gin files and in flags."""

import random

_ODD = """
-1 0 1 -0.5 1e999 -1e999 nan 1e-30 10**9 1000000000000 2.5 None True '' 'x' [] {} () [1,2] {'targets':64}
{'targets':-1} {'targets':None} {'targets':'64'} [None] %NOWHERE %TRAIN_STEPS %MODEL @nothing() @loop.train()
@loop.Evaluation @loop.Evaluation() '\\u2028' '\\x00' '../..' '😀' - 1_0 0x10 1j
"""
_NUMBERS = """
-1 0 1 2 3 7 8 64 1000000000000 -0.5 0.5 1.0 1.5 1e-30 1e30 None
"""
_NAMES = """
TRAIN_STEPS BATCH_SIZE LEARNING_RATE SEED EVAL_PERIOD CHECKPOINT_PERIOD PROFILE_STEPS MODEL_DIR TASK_FEATURE_LENGTHS
MIXTURE_OR_TASK_NAME TEXT_PATTERN DATA_DIR VOCABULARY_SIZE VALIDATION_ONE_IN MODEL OBJECTIVE TASK PIPELINE
DecoderConfig.vocab_size DecoderConfig.embed_dim DecoderConfig.num_layers DecoderConfig.num_heads
DecoderConfig.num_kv_heads DecoderConfig.head_dim DecoderConfig.mlp_dim DecoderConfig.tied_embeddings
DecoderConfig.rope_theta DecoderConfig.norm_epsilon DecoderConfig.dtype DecoderConfig.attention DecoderConfig.remat
DecoderConfig.scan_unroll DecoderConfig.loss_chunk Optimizer.name Optimizer.b1 Optimizer.eps Optimizer.clip_norm
Optimizer.moment_dtype Optimizer.schedule Schedule.peak Schedule.warmup_steps Schedule.decay Schedule.final_frac
Schedule.cooldown_frac MeshConfig.data MeshConfig.fsdp MeshConfig.sequence MeshConfig.tensor Evaluation.period
Evaluation.batches CheckpointPolicy.period CheckpointPolicy.keep Pipeline.threads Pipeline.shuffle_rows
Pipeline.use_cached Pipeline.seed Pipeline.task TextTask.name TextTask.corpus TextTask.shards
TextTask.longest_document TextTask.lexicon_file TextTask.salient_labels TextTask.tagger TextTask.lexicon
LocalText.pattern LocalText.text_field LocalText.separator train.microbatches train.z_loss train.log_period
train.stop_at train.compilation_cache train.seed train.mesh train.optimizer train.tpu_compiler_options MaskedLM.rate
MaskedLM.mask_prob MaskedLM.static_copies MaskedLM.attention CausalMasked.mean_spans CausalMasked.spans_per_row
CausalMasked.max_spans MEAP.rate SalientSpan.form RandomSpan.rate
"""
_FLAGS = """
--gin. --gin.=1 --gin --gin.X --gin_file --gin_file= --gin_file=/ --bogus - -- x --gin.A=[ --gin_search_paths=/nowhere
--gin_file=gin --gin.a/b=1
"""
ODD, NUMBERS, NAMES = _ODD.split(), _NUMBERS.split(), _NAMES.split()
FLAGS = [*_FLAGS.split(), '--gin.a b=1']
JUNK = '\x00\x07\ufeff\u200bé漢🙂\'"([{)@%=/\\#\t\r\n'


def _odd(rng: random.Random) -> str:
  return rng.choice(ODD if rng.random() < 0.5 else NUMBERS)


def mutated(text: str, rng: random.Random) -> str:
  """The text with one to three mistakes in it."""
  for _ in range(rng.choice((1, 1, 2, 3))):
    text = rng.choice(_MISTAKES)(text, rng)
  return text


def _character(text: str, rng: random.Random) -> str:
  at = rng.randrange(len(text) + 1)
  how = rng.randrange(4)
  junk = rng.choice(JUNK)
  if how == 0:
    return text[:at] + text[at + 1 :]
  if how == 1:
    return text[:at] + junk + text[at:]
  if how == 2:
    return text[:at] + junk + text[at + 1 :]
  return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def _line(text: str, rng: random.Random) -> str:
  lines = text.split('\n')
  at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
  how = rng.randrange(4)
  if how == 0:
    del lines[at]
  elif how == 1:
    lines.insert(other, lines[at])
  elif how == 2:
    lines[at], lines[other] = lines[other], lines[at]
  else:
    lines[at] = '  ' + lines[at]
  return '\n'.join(lines)


def _value(text: str, rng: random.Random) -> str:
  lines = text.split('\n')
  bound = [i for i, line in enumerate(lines) if ' = ' in line and not line.startswith('#')]
  if not bound:
    return text
  at = rng.choice(bound)
  lines[at] = f'{lines[at].partition(" = ")[0]} = {_odd(rng)}'
  return '\n'.join(lines)


def _name(text: str, rng: random.Random) -> str:
  lines = text.split('\n')
  bound = [i for i, line in enumerate(lines) if line and not line.startswith('#')]
  if not bound:
    return text
  at = rng.choice(bound)
  words = lines[at].split(' ')
  words[rng.randrange(len(words))] = _character(rng.choice(words), rng).replace('\n', '')
  lines[at] = ' '.join(words)
  return '\n'.join(lines)


def _bound(text: str, rng: random.Random) -> str:
  macros = [name for name in NAMES if '.' not in name]
  return f'{text}\n{rng.choice(macros)} = {_odd(rng)}\n'


def _cut(text: str, rng: random.Random) -> str:
  return text[: rng.randrange(len(text) + 1)]


def _deep(text: str, rng: random.Random) -> str:
  depth = rng.choice((30, 300, 3000))
  return text + rng.choice(
    (f'A = {"[" * depth}', f'A = {"[" * depth}{"]" * depth}', f'{"a/" * depth}b = 1', '(' * depth)
  )


_MISTAKES = (_character, _line, *[_value] * 6, _name, *[_bound] * 4, _cut, _deep)


def spoil(argv: list[str], rng: random.Random) -> None:
  """One mistake among the flags."""
  how = rng.randrange(20)
  at = rng.randrange(len(argv))
  if how < 17:
    argv.append(f'--gin.{rng.choice(NAMES)}={_odd(rng)}')
  elif how == 17:
    argv[at] = _character(argv[at], rng).replace('\x00', '')
  elif how == 18:
    del argv[at]
  else:
    argv.append(rng.choice(FLAGS))
