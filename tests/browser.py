"""Headless Chromium by its own debugging pipe, for looking at pages as a reader's browser shows them."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
_FLAGS = (
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
  '--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-pipe'
)
# Chromium reads commands from descriptor 3 and answers on 4.
_LAUNCH = (
  'import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])'
)


def find() -> str:
  """The browser's path: $CHROMIUM, or one of `NAMES`; says how to get one if there is none."""
  for name in (os.environ.get('CHROMIUM'), *NAMES):
    if name and (found := shutil.which(name)):
      return found
  raise FileNotFoundError('There is no Chromium: apt-get install chromium, or set CHROMIUM to the path of one.')


@contextlib.contextmanager
def browser() -> Iterator['Browser']:
  """A browser with one tab and an empty profile, closed at the end."""
  commands_out, commands_in = os.pipe()
  answers_out, answers_in = os.pipe()
  with tempfile.TemporaryDirectory(prefix='unmask-chromium-', ignore_cleanup_errors=True) as profile:
    launch = [sys.executable, '-c', _LAUNCH, str(commands_out), str(answers_in)]
    process = subprocess.Popen(
      [*launch, find(), *_FLAGS.split(), f'--user-data-dir={profile}', 'about:blank'],
      pass_fds=(commands_out, answers_in),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(commands_out)
    os.close(answers_in)
    try:
      with os.fdopen(commands_in, 'wb', buffering=0) as commands, os.fdopen(answers_out, 'rb') as answers:
        yield Browser(commands, answers)
    finally:
      process.terminate()
      try:
        process.wait(20)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Browser:
  """One tab."""

  def __init__(self, commands, answers):
    self._commands, self._answers, self._count, self._rest = commands, answers, 0, b''
    self.complaints: list[str] = []
    """Errors and warnings of the console, exceptions, and everything that did not load."""
    self.requests: list[str] = []
    """Addresses that pages asked for, but for data: ones."""
    self._session = None
    target = next(t for t in self.call('Target.getTargets')['targetInfos'] if t['type'] == 'page')
    self._session = self.call('Target.attachToTarget', targetId=target['targetId'], flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **parameters: Any) -> dict:
    """One command of the DevTools protocol; its result."""
    self._count += 1
    message = {'id': self._count, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    self._commands.write(json.dumps(message).encode() + b'\0')
    while True:
      answer = self._next()
      if answer.get('id') == self._count:
        if 'error' in answer:
          raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']
      self._heard(answer)

  def _next(self) -> dict:
    while b'\0' not in self._rest:
      data = os.read(self._answers.fileno(), 1 << 20)
      if not data:
        raise RuntimeError('Chromium ended')
      self._rest += data
    message, self._rest = self._rest.split(b'\0', 1)
    return json.loads(message)

  def _heard(self, event: dict) -> None:
    kind, facts = event.get('method', ''), event.get('params', {})
    if kind == 'Runtime.exceptionThrown':
      self.complaints.append(str(facts['exceptionDetails']))
    elif kind == 'Runtime.consoleAPICalled' and facts['type'] in ('error', 'warning', 'assert'):
      self.complaints.append(str(facts['args']))
    elif kind == 'Log.entryAdded' and facts['entry']['level'] in ('error', 'warning'):
      self.complaints.append(facts['entry']['text'])
    elif kind == 'Network.loadingFailed':
      self.complaints.append(facts['errorText'])
    elif kind == 'Network.requestWillBeSent' and not facts['request']['url'].startswith('data:'):
      self.requests.append(facts['request']['url'])

  def open(self, address: str, width: int, scripts: bool = True) -> None:
    """Loads a page in a window `width` pixels wide and waits until all of it is there."""
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1, mobile=False)
    self.call('Emulation.setScriptExecutionDisabled', value=not scripts)
    self.call('Page.navigate', url=address)
    deadline = time.monotonic() + 60
    while self.value('document.readyState') != 'complete' or self.value('location.href') != address:
      if time.monotonic() > deadline:
        raise TimeoutError(address)
      time.sleep(0.05)

  def value(self, expression: str) -> Any:
    """What a JavaScript expression gives, as plain data."""
    result = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in result:
      raise RuntimeError(str(result['exceptionDetails']))
    return result['result'].get('value')

  def screenshot(self) -> bytes:
    """The whole page as PNG."""
    size = self.call('Page.getLayoutMetrics')['cssContentSize']
    clip = {'x': 0, 'y': 0, 'width': size['width'], 'height': size['height'], 'scale': 1}
    taken = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True, clip=clip)
    return base64.b64decode(taken['data'])

  def accessibility(self) -> list[dict]:
    """Nodes of the tree that a screen reader gets: [{'role', 'name'}], without those it does not get."""
    nodes = self.call('Accessibility.getFullAXTree')['nodes']
    pick = lambda node, key: node.get(key, {}).get('value', '')
    return [{'role': pick(node, 'role'), 'name': pick(node, 'name')} for node in nodes if not node.get('ignored')]


if __name__ == '__main__':  # what pytest is to leave out here
  try:
    find()
  except FileNotFoundError as error:
    print(f'The report is not looked at in a browser. {error}', file=sys.stderr)
    print('--ignore=tests/integration/test_report_browser.py')
