"""As ``sitecustomize``: frames that the environment names kill the process that masks them, or never end."""

import importlib.abc
import importlib.util
import os
import signal
import sys
import time


class _Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "crattn_stage.stage":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            do_stage = module.AttentionCRStage.do_stage

            def deadly(self, frame):
                if os.environ["CRATTN_TEST_KILLER"] in frame.path.name:
                    os.kill(os.getpid(), signal.SIGKILL)
                if "-slow" in frame.path.name:
                    time.sleep(1000)
                if "-deaf" in frame.path.name:
                    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                    time.sleep(1000)
                return do_stage(self, frame)

            module.AttentionCRStage.do_stage = deadly

        spec.loader.exec_module = exec_module
        return spec


if "CRATTN_TEST_KILLER" in os.environ:
    sys.meta_path.insert(0, _Hook())
