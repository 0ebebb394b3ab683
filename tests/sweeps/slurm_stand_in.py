"""A stand-in for Slurm: sbatch, squeue, srun and scontrol, with jobs that are processes of this machine.

It is copied under these four names into a folder, which is where it keeps its state: a file for each job that is queued or
runs, and one for each that is to be queued again. Like Slurm, it prints where it is asked to, and knows no Python objects.
"""

import os
import subprocess
import sys
from pathlib import Path

STATE = Path(__file__).parent / "state"


def sbatch(script):
    """Start every job of an array at once."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "calls").open("a") as calls:
        calls.write("sbatch\n")
    number = 100 * len((STATE / "calls").read_text().splitlines())
    arrays = [line for line in Path(script).read_text().splitlines() if line.startswith("#SBATCH --array=")]
    indices = range(int(arrays[0].split("-")[-1].split("%")[0]) + 1) if arrays else [None]
    for index in indices:
        environment = os.environ | {"SLURM_JOB_ID": str(number + (index or 0))}
        if index is not None:
            environment |= {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index)}
        job = str(number) if index is None else f"{number}_{index}"
        (STATE / f"{job}.queued").touch()
        command = f"sh {script}; rm {STATE}/{job}.queued"
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # who asked waits for what sbatch prints
        subprocess.Popen(["sh", "-c", command], env=environment, start_new_session=True, **nowhere)
    print(f"Submitted batch job {number}")


def squeue(*_):
    """Print ``array index`` of every job."""
    for file in STATE.glob("*.queued"):
        number, _, index = file.stem.partition("_")
        print(number, index or "N/A")


def srun(*arguments):
    """Run the command of a job, and again as long as it is to be queued again."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{index}" if array else os.environ["SLURM_JOB_ID"]
    output, error = (
        arguments[arguments.index(option) + 1].replace("%A_%a", job).replace("%j", job).replace("%t", "0")
        for option in ("--output", "--error")
    )
    command = arguments[arguments.index("--error") + 2 :]
    while True:
        with Path(output).open("a") as out, Path(error).open("a") as err:
            subprocess.run(command, stdout=out, stderr=err, check=False)
        if not (STATE / f"{job}.again").exists():
            return
        (STATE / f"{job}.again").unlink()


def scontrol(_, job):
    """``scontrol requeue JOB``."""
    (STATE / f"{job}.again").touch()


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "srun": srun, "scontrol": scontrol}[Path(sys.argv[0]).name](*sys.argv[1:])
