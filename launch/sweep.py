"""`unmask sweep`: flags and a call."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from . import flags


def _parser() -> flags.Parser:
  parser = flags.parser('sweep', 'Train and judge many cells, then write a report. Finished cells are not run again.')
  parser.add_argument('--dry_run', action='store_true', help='only show the cells: tokens, FLOPs, time')
  retry = argparse.BooleanOptionalAction
  parser.add_argument('--retry_failed', action=retry, default=True, help='run cells again that failed')
  parser.add_argument('--judge', action=retry, default=True, help='judge and report when all are trained')
  add_engines(parser, 'local')
  return parser


def add_engines(parser: flags.Parser, *more: str) -> None:
  """Adds --engine, the schedulers whose files can be written, and their flags.

  Args:
    parser: gets them.
    more: what else --engine may be; the first is the default.
  """
  parser.add_argument(
    '--engine',
    choices=(*more, 'skypilot', 'jobset'),
    default=more[0] if more else None,
    required=not more,
    help='the scheduler whose files are written' + ('; local trains here' if 'local' in more else ''),
  )
  parser.add_argument('--write', metavar='DIR', help='where those files go (default: jobs/ENGINE)')
  parser.add_argument('--accelerator', metavar='A', help='of a run there: v5e:4x4, 2xv5e:4x4, or GPUs, H100:8')
  parser.add_argument(
    '--spot', action=argparse.BooleanOptionalAction, help='on machines that may be taken away (the default)'
  )
  parser.add_argument('--infra', metavar='CLOUD', help="SkyPilot's: gcp/us-west4, kubernetes, ...")
  parser.add_argument('--image', metavar='IMAGE', help="JobSet's: a container in which unmask is installed")
  parser.add_argument('--service_account', metavar='NAME', help="JobSet's: of Kubernetes, for the bucket")


def engine(options: argparse.Namespace) -> Any:
  """What --engine and its flags ask for; None for the local one."""
  from .sweeping import jobset, skypilot

  files = {'write', 'accelerator', 'spot'}
  mine = {'skypilot': files | {'infra'}, 'jobset': files | {'image', 'service_account'}, 'local': set()}
  for flag in ('spot', 'write', 'accelerator', 'infra', 'image', 'service_account'):
    if getattr(options, flag) not in (None, '') and flag not in mine[options.engine]:
      raise flags.UserError(f'--{flag} is not for --engine={options.engine}.')
  if options.engine == 'local':
    return None
  for flag in ('retry_failed', 'judge'):  # of a sweep
    if not getattr(options, flag, True):
      raise flags.UserError(f'--no-{flag} is not for --engine={options.engine}, which only writes files.')
  folder = options.write or f'jobs/{options.engine}'
  if not options.accelerator:
    raise flags.UserError(f'--engine={options.engine} needs --accelerator, such as v5e:4x4.')
  if options.engine == 'skypilot':
    return skypilot.SkyPilot(
      folder=folder, accelerator=options.accelerator, infra=options.infra, spot=options.spot is not False
    )
  if not options.image:
    raise flags.UserError('--engine=jobset needs --image, a container in which unmask is installed.')
  return jobset.JobSet(
    folder=folder,
    accelerator=options.accelerator,
    image=options.image,
    spot=options.spot is not False,
    service_account=options.service_account,
  )


def _main(argv: Sequence[str]) -> int:
  options = flags.parse(_parser(), argv)
  if not options.gin_file:
    raise flags.UserError('Give --gin_file=gin/sweeps/core.gin.')
  with flags.quiet():
    from . import config, start
    from .sweeping import runner

    start.libraries()
  asked = runner.Options(
    dry_run=options.dry_run, retry_failed=options.retry_failed, judge=options.judge, engine=engine(options)
  )
  config.load(options.gin_file, options.gin_bindings, options.gin_search_paths)
  return 1 if config.call(runner.sweep, options=asked) else 0


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return flags.run(_main, argv)


if __name__ == '__main__':
  sys.exit(main())
