import subprocess
import sys

import engramcka.figures


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


def test_every_public_name_is_there():
    assert len(engramcka.figures.__all__) == len(set(engramcka.figures.__all__)) > 15
    for name in engramcka.figures.__all__:
        assert getattr(engramcka.figures, name) is not None
