"""The sections of the benchmark: each returns what it measured, as plain data."""

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import inputs
from crattn_stage.models.cards import DEFAULT, load, shipped
from crattn_stage.processors import available_cpus
from training.evaluation.peer_process import run_isolated
from training.evaluation.peer_runner import METHODS, OURS, peak_megabytes

#: The default and the fullest network of the paper, whose cost is looked at closely.
MODELS = tuple(dict.fromkeys((DEFAULT, "att-deepcr")))

#: Sections that start our code in processes of their own find it there.
ROOT = Path(__file__).resolve().parents[1]


def _timed(options, images, name, python=sys.executable, **arguments):
    """Time a method on the first image, in a process of its own; return its report and its scores of the others."""
    arguments = {key: options[key] for key in ("threads", "repeats")} | arguments
    report, scores = run_isolated(name, images, python, **arguments)
    if "seconds" in report:
        report["median"] = statistics.median(report["seconds"])
        report["megapixels_per_second"] = images[0][0].size / 1e6 / report["median"]
    return report, scores


def _accuracy(scenes, scores, threshold, dilate):
    from training.evaluation.metrics import at_setting, operating_points, tpr_at
    from training.evaluation.peers import dilated

    row = {}
    for (name, scene), score in zip(scenes.items(), scores, strict=True):
        good = ~scene.sky.bad
        truth, values = scene.truth[good], (dilated(score) if dilate else score)[good]
        row[name] = at_setting(values > threshold, truth)
        if len(np.unique(values)) > 2:
            # A filter at one setting has no curve.
            row[name]["tpr_1e-4"] = tpr_at(operating_points(values, truth), 1e-4)
    return row


def detectors(options):
    """Time, memory and accuracy of a 2048x4096 CCD by our models and engines, and by others."""
    scenes = {}
    if options["data"]:
        from training.data.library import Skies
        from training.evaluation.scene_sets import lacking, make_scenes

        skies = Skies("test", options["data"])
        scenes = {name: make_scenes(skies, name, 1)[0] for name in ("r", "z") if not lacking(skies, name)}
    images = [inputs.frame()]
    images += [(scene.image, scene.sky.bad, scene.sky.gain, scene.sky.read_noise) for scene in scenes.values()]
    asked = {f"{m} (auto)": (OURS, {"model": m}) for m in shipped()}
    asked |= {f"{DEFAULT} ({e})": (OURS, {"model": DEFAULT, "engine": e}) for e in ("float32", "torch")}
    asked |= {method.title: (name, {}) for name, method in METHODS.items()}
    rows = {}
    for label, (name, arguments) in asked.items():
        if options["only"] and not any(part in label for part in options["only"]):
            continue
        method = METHODS.get(name)
        if method and method.own_python:
            python = options["maximask"] if name == "maximask" else options["peers"]
            arguments = {"python": python or sys.executable}
        rows[label], scores = _timed(options, images, name, **arguments)
        if scores:
            rows[label]["accuracy"] = _accuracy(scenes, scores, rows[label]["threshold"], method and method.dilate)
        print(f"  {label:26}{_line(rows[label])}", flush=True)
    for peer in ("Astro-SCRAPPY", "Cosmic-CoNN"):
        for label in (f"{model} (auto)" for model in MODELS):
            if "median" in rows.get(peer, {}) and "median" in rows.get(label, {}):
                ratio = rows[peer]["median"] / rows[label]["median"]
                print(f"  {label} is {ratio:.1f} times as fast as {peer}", flush=True)
    return rows


def _line(row):
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    text = f"{row['median']:7.2f} s ({min(row['seconds']):.2f}-{max(row['seconds']):.2f})"
    text += f"{row['megapixels_per_second']:7.2f} Mpx/s{row['peak_megabytes']:6.0f} MB  {row['engine']:18}"
    for name, figures in row.get("accuracy", {}).items():
        text += f" {name}: TPR(1e-4) {figures['tpr_1e-4']:.4f}" if "tpr_1e-4" in figures else f" {name}: TPR - "
        text += f" F1 {figures['f1']:.4f}"
    return text


def scaling(options, sides=(512, 1024, 2048, 4096, 8192)):
    """Cost and memory against frame size, 0.25 to 64 megapixels."""
    rows = {}
    for model in MODELS:
        reports = [_timed(options, [inputs.frame((side, side))], OURS, model=model)[0] for side in sides]
        seconds = [r["median"] for r in reports]
        slope = float(np.polyfit(np.log(np.square(sides)), np.log(seconds), 1)[0])
        peaks = [r["peak_megabytes"] for r in reports]
        rows[model] = {"sides": list(sides), "seconds": seconds, "peak_megabytes": peaks, "slope": slope}
        table = ", ".join(
            f"{s * s / 2**20:g} Mpx {t:.2f} s {p:.0f} MB" for s, t, p in zip(sides, seconds, peaks, strict=True)
        )
        print(f"  {model}: slope {slope:.3f}; {table}", flush=True)
    return rows


def workers(options):
    """Throughput of 1 to all cores, one worker of one thread each."""
    image, rows = inputs.frame(), {}
    for count in range(1, available_cpus() + 1):
        reports = [None] * count

        def work(i, reports=reports):
            reports[i] = _timed(options, [image], OURS, model=DEFAULT, threads=1)[0]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        rows[count] = sum(r["megapixels_per_second"] for r in reports)
        print(f"  {count} workers: {rows[count]:.2f} Mpx/s, {rows[count] / rows[1]:.2f} times one", flush=True)
    return rows


@contextmanager
def _phases(spent):
    """Measure how long each phase is busy, which overlap, and the CPU time of each but that of other threads."""
    from crattn_stage import stage
    from crattn_stage.detection.model import CosmicRayModel
    from crattn_stage.fits.file import FitsFile

    places = {
        "read": (FitsFile, "read"),
        "mask": (CosmicRayModel, "detect"),
        "lines": (stage, "drop_lines"),
        "judge": (stage, "judge"),
        "pack": (FitsFile, "rendered"),
        "write": (FitsFile, "copy"),
        "sha256": (FitsFile, "sha256"),
    }
    old = {phase: getattr(*place) for phase, place in places.items()}

    def timed(phase):
        def function(*arguments, **keywords):
            began = time.perf_counter(), time.thread_time()
            try:
                return old[phase](*arguments, **keywords)
            finally:
                wall, cpu = spent.get(phase, (0, 0))
                spent[phase] = wall + time.perf_counter() - began[0], cpu + time.thread_time() - began[1]

        return function

    for phase, (owner, name) in places.items():
        setattr(owner, name, timed(phase))
    try:
        yield
    finally:
        for phase, (owner, name) in places.items():
            setattr(owner, name, old[phase])


def _end_to_end(model, path, target, repeats, injections):
    """Mask a file in this process, and some of its CCDs in memory alone; print what it took as JSON.

    Wall and CPU seconds: of the file, and of a CCD in memory.
    """
    from crattn_stage.fits.frame import ObservationFrame
    from crattn_stage.process import process
    from crattn_stage.products.settings import MaskSettings
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    masks = MaskSettings(injections=None if injections == "default" else int(injections))
    stage = AttentionCRStage(RuntimeContext(model, masks=masks))
    clocks = (time.perf_counter, time.process_time)
    with ObservationFrame(path) as frame:
        ccds = [(frame.read(e), [a.section for a in frame.amplifiers(e)]) for e in frame.extensions[: inputs.DISTINCT]]
        # The first one warms up.
        stage.model.detect(*ccds[0][:1], amplifiers=ccds[0][1])
        memory = []
        for _ in range(3):
            began = [clock() for clock in clocks]
            for ccd, sections in ccds:
                stage.model.detect(ccd, amplifiers=sections)
            memory.append([(clock() - then) / len(ccds) for clock, then in zip(clocks, began, strict=True)])
        del ccds, ccd
    seconds, spent = [], {}
    for _ in range(int(repeats)):
        spent.clear()
        with _phases(spent):
            began = [clock() for clock in clocks]
            outcome = process(path, target, stage, overwrite=True)
            seconds.append([clock() - then for clock, then in zip(clocks, began, strict=True)])
    wall, cpu = (
        {"in_memory": statistics.median(m[i] for m in memory), "seconds": [s[i] for s in seconds]} for i in (0, 1)
    )
    wall["phases"], cpu["phases"] = ({phase: both[i] for phase, both in spent.items()} for i in (0, 1))
    report = {**wall, "cpu": cpu, "peak_megabytes": peak_megabytes()}
    print(json.dumps({**report, "engine": stage.model.engine, "message": outcome.message}))


def exposure(options):
    """A packed CCD, and a whole packed exposure, file to file over in memory, with added hits and without."""
    rows = {}
    with tempfile.TemporaryDirectory(dir=options["output"]) as folder:
        path, target = Path(folder) / "exposure.fits.fz", Path(folder) / "masked.fits.fz"
        for ccds in dict.fromkeys((1, options["ccds"])):
            inputs.packed_exposure(path, ccds)
            for model, injections in itertools.product(MODELS, ("default", "0")):
                label = f"{model}, {ccds} CCD{', no injection' if injections == '0' else ''}"
                if options["only"] and not any(part in label for part in options["only"]):
                    continue
                code = "import sys; from benchmarks.sections import _end_to_end; _end_to_end(*sys.argv[1:])"
                repeats = str(options["repeats"] if ccds == 1 else 1)
                done = subprocess.run(
                    [sys.executable, "-c", code, model, path, target, repeats, injections],
                    capture_output=True,
                    text=True,
                    cwd=ROOT,
                    env={**os.environ, "OMP_NUM_THREADS": str(options["threads"])},
                )
                if done.returncode:
                    raise RuntimeError(done.stderr)
                row = rows[label] = json.loads(done.stdout.strip().splitlines()[-1])
                for part in (row, row["cpu"]):
                    part["median"] = statistics.median(part["seconds"])
                    part["times_in_memory"] = part["median"] / (ccds * part["in_memory"])
                cpu = row["cpu"]
                busy = ", ".join(f"{phase} {s / ccds:.2f}" for phase, s in cpu["phases"].items())
                print(f"  {label}, {path.stat().st_size / 1e6:.0f} MB, {row['peak_megabytes']:.0f} MB at the peak:")
                for clock, part in (("wall", row), ("CPU", row["cpu"])):
                    text = f"{part['median']:.2f} s, {part['times_in_memory']:.2f} times in memory"
                    print(f"    {clock:4} {text} ({part['in_memory']:.2f} s a CCD)")
                print(f"    CPU of a CCD, without that of the engine's threads: {busy} s", flush=True)
    return rows


def before(options):
    """A packed CCD and a whole packed exposure by ``crattn-stage run`` of an earlier checkout and of this, in turn."""
    if not options["before"]:
        print("  left out: --before names no earlier checkout")
        return {}
    versions = {
        "before": (options["before"], []),
        "after": (ROOT, []),
        "after, no injection": (ROOT, ["--no-injection"]),
    }
    rows = {}
    with tempfile.TemporaryDirectory(dir=options["output"]) as folder:
        path = Path(folder) / "exposure.fits.fz"
        for ccds in dict.fromkeys((1, options["ccds"])):
            inputs.packed_exposure(path, ccds)
            # The first round warms up.
            for measured, (name, (checkout, more)) in itertools.product(
                range(options["repeats"] + 1), versions.items()
            ):
                own = Path(folder) / name
                command = ["run", path, "--output-dir", own, "--db", f"sqlite:///{own}.sqlite", "--overwrite", *more]
                began = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, "-c", "from crattn_stage.cli import main; main()", *command],
                    env={**os.environ, "PYTHONPATH": str(Path(checkout).resolve())},
                    stdout=subprocess.DEVNULL,
                    cwd=folder,
                )
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    raise RuntimeError(f"{name}: status {status}")
                if measured:
                    figures = time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
                    rows.setdefault(f"{ccds} CCD, {name}", []).append(figures)
            for name in versions:
                row = f"{ccds} CCD, {name}"
                rows[row] = dict(zip(("wall", "cpu", "megabytes"), np.median(rows[row], 0).tolist(), strict=True))
                print("  {}: {wall:.1f} s, {cpu:.1f} s of CPU, {megabytes:.0f} MB".format(row, **rows[row]), flush=True)
    return rows


def startup(options):
    """What `crattn-stage run` on a small frame takes beyond importing torch."""
    from astropy.io import fits

    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder) / "small.fits", inputs.ccd((128, 128))[0])
        script = Path(sys.executable).with_name("crattn-stage")
        database = f"sqlite:///{folder}/provenance.sqlite"
        run = [script, "run", f"{folder}/small.fits", "--overwrite", "--db", database]
        commands = {"import torch": [sys.executable, "-c", "import torch"], "run": run, "help": [script, "--help"]}
        rows = {name: [] for name in commands}
        # Once more than counted: the first run measures the engines and makes the database.
        for _ in range(options["repeats"] + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                rows[name].append(time.perf_counter() - began)
    rows = {name: statistics.median(seconds[1:]) for name, seconds in rows.items()}
    print("  " + ", ".join(f"{name} {s:.2f} s" for name, s in rows.items()), flush=True)
    return rows


def limits(options, side=4096):
    """What this machine can do at most: arithmetic and memory bandwidth, and the share each engine reaches."""
    import torch

    from crattn_stage.models.networks import restore

    torch.set_num_threads(options["threads"])

    def fastest(function, repeats=5):
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
        return min(times)

    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, side, side).to(dtype)
        rows[f"teraflops {dtype}".replace("torch.", "")] = 2 * side**3 / fastest(lambda a=a, b=b: a @ b) / 1e12
    a, b = torch.empty(2, 2**26)
    rows["gigabytes_per_second"] = 2 * a.numel() * 4 / fastest(lambda: b.copy_(a)) / 1e9
    for model in shipped():
        flops, traffic = _work(restore(*load(model)))
        rows[model] = {
            "kiloflops_per_pixel": flops / 1e3,
            "bytes_per_pixel": traffic,
            "arithmetic_seconds": flops * np.prod(inputs.SHAPE) / rows["teraflops bfloat16"] / 1e12,
            "memory_seconds": traffic * np.prod(inputs.SHAPE) / rows["gigabytes_per_second"] / 1e9,
        }
    for name, row in rows.items():
        values = row.items() if isinstance(row, dict) else [("", row)]
        print(f"  {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values), flush=True)
    return rows


def _work(network, side=256):
    """Return FLOP per pixel, and bytes if each convolution reads and writes its 16-bit feature maps in memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    numbers = []
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(lambda _, ins, out: numbers.append(sum(t.numel() for t in (*ins, out))))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, side, side))
    return counter.get_total_flops() / side**2, 2 * sum(numbers) / side**2


def gpu(options):
    """Our models on a CUDA device, where there is one."""
    import torch

    if not torch.cuda.is_available():
        print("  left out: no CUDA device", flush=True)
        return {"left_out": "no CUDA device"}
    rows = {}
    for model in shipped():
        rows[model] = _timed(options, [inputs.frame()], OURS, model=model, engine="cuda")[0]
        print(f"  {model:26}{_line(rows[model])}", flush=True)
    return rows


def machine(options):
    """Where it was measured."""
    import torch

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return {"processor": name, "cores": available_cpus(), "threads": options["threads"], "torch": torch.__version__}


SECTIONS = {f.__name__: f for f in (detectors, scaling, workers, exposure, before, startup, limits, gpu)}
