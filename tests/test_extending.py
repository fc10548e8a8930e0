"""The example of docs/extending.md, taken from the page itself, as a user would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_documented_example_runs_from_outside_the_package(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), flags=re.S)
    method, config = blocks[:2]
    (tmp_path / "my_method.py").write_text(method)
    (tmp_path / "my_config.py").write_text(config.replace("configs/", f"{ROOT}/configs/"))
    command = [sys.executable, str(ROOT / "tools" / "test.py"), "my_config.py", "--limit", "2", "--work-dir", "out"]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([".", str(ROOT)]), OVSEG_DATA=str(ROOT / "data"))
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "mIoU" in done.stdout
    assert "KeyValueAttention" in (tmp_path / "out" / "result.json").read_text()
