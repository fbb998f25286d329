"""Files of a model directory, which lies on this machine's disks or in a bucket: by `etils.epath`, as Orbax does it."""

import contextlib
import importlib.util
import os
import pathlib
import re
import uuid

from etils import epath

from .. import UserError

_SCHEME = re.compile(r'([a-z][a-z0-9]*):/')


def is_remote(path: str | os.PathLike) -> bool:
  """Whether the path lies in a bucket, such as gs://bucket/run."""
  return _SCHEME.match(os.fspath(path)) is not None


def path(model_dir: str | os.PathLike) -> epath.Path:
  """The path of a model directory: absolute if it is local.

  Raises:
    UserError: it lies where Orbax keeps no checkpoints, or what reaches it is not installed.
  """
  name = os.fspath(model_dir)
  scheme = _SCHEME.match(name)
  if scheme is None:
    return epath.Path(os.path.abspath(name))
  if not re.match('gs://[^/]', name):
    # Orbax takes other schemes for relative paths, and would write into a local folder of that name.
    raise UserError(f'{name!r} is neither a local folder nor a Google bucket: write it as gs://BUCKET/FOLDER.')
  if importlib.util.find_spec('gcsfs') is None:
    raise UserError(f'{name!r} needs gcsfs: pip install -c constraints.txt -r requirements-gcs.txt.')
  _use_gcsfs()
  return epath.Path(name)


def _use_gcsfs() -> None:
  """Chooses what epath reaches buckets by, before it chooses itself, at its first use."""
  # TensorFlow's own client would be first choice: it reaches no emulator, so nothing here was tested with it.
  os.environ.setdefault('EPATH_USE_TF', 'false')
  import fsspec.config

  # TensorStore and other processes write beside gcsfs: a listing that it remembers may be wrong.
  fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)


def write_atomically(file: epath.Path, content: str | bytes) -> None:
  """Writes a whole file, or leaves what was there.

  Raises:
    UserError: it cannot be written; names the file and the reason.
  """
  try:
    if is_remote(file):  # an object appears whole
      _write(file, content)
      return
    scratch = file.with_name(f'.{file.name}.tmp')
    try:
      _write(scratch, content)
      scratch.replace(file)
    except OSError:
      with contextlib.suppress(OSError):
        scratch.unlink()
      raise
  except Exception as error:
    raise unwritable(str(file), error) from error


def _write(file: epath.Path, content: str | bytes) -> None:
  if isinstance(content, bytes):
    file.write_bytes(content)
  else:
    file.write_text(content)


def probe(model_dir: str | os.PathLike) -> None:
  """Makes a directory and sees that files can be written to it; UserError with the reason if not."""
  folder = path(model_dir)
  file = folder / f'.writable-{uuid.uuid4().hex}'  # of this process alone: several may look at once
  try:
    if not is_remote(folder):  # a bucket has no folders, and gcsfs would make a missing bucket
      folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(4096))  # an empty file fits on a full disk
    file.unlink()
  except Exception as error:
    with contextlib.suppress(Exception):
      file.unlink()
    raise unwritable(f'MODEL_DIR {os.fspath(model_dir)!r}', error) from error


def unwritable(name: str, error: Exception) -> UserError:
  """The error of something that cannot be written, with the reason."""
  return UserError(f'{name} cannot be written: {reason(error)}.')


def reason(error: Exception) -> str:
  """Why something could not be read or written, in one line without its full stop."""
  if isinstance(error, FileNotFoundError) and not error.errno:
    return f'there is no such bucket or object ({error})'
  text = getattr(error, 'strerror', None) or str(error).strip() or type(error).__name__
  # TensorFlow's errors begin with the operation and go on with what else failed.
  return re.sub(r'^\{\{.*?\}\} ', '', text.split('\n')[0])[:300].rstrip('.')


def copy_tree(source: str, target: epath.Path) -> None:
  """Copies all files below a local folder."""
  for file in sorted(pathlib.Path(source).rglob('*')):
    if file.is_file():
      (target / file.relative_to(source).as_posix()).write_bytes(file.read_bytes())
