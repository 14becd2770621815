import subprocess
import sys


def test_importing_the_package_loads_no_matplotlib_and_tables_need_none():
    code = """
import sys
import numpy as np
import engramcka.figures as figures
import engramcka.results as results
figures.to_csv(results.CkaMap(np.eye(3)))
assert "matplotlib" not in sys.modules, "import"
figures.cka_figure(results.CkaMap(np.eye(3)))
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
assert "torch" not in sys.modules, "torch"
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
