"""The disks that other tests break are what they say."""

import disks
import pytest


@disks.mounts
def test_a_small_disk_fills_up_is_freed_and_leaves(tmp_path):
  with disks.small_disk(tmp_path / 'disk', 1) as disk:
    filler = disks.fill(disk)
    assert 900_000 < filler.stat().st_size <= 1 << 20
    with pytest.raises(OSError, match='No space left'):
      (disk / 'more').write_bytes(bytes(10_000))
    filler.unlink()
    (disk / 'more').write_bytes(bytes(10_000))
    with disks.read_only(disk), pytest.raises(OSError, match='Read-only'):
      (disk / 'other').write_bytes(b'1')
  assert not list((tmp_path / 'disk').iterdir())
