#!/usr/bin/env bash
# All that stands in results/signal_game but the READMEs: the sweeps, which skip the runs that are finished, then tables, curves, figures and pages.
#     benchmarks/signal_game_results.sh FEATURES.npz
# where FEATURES.npz holds the Tiny ImageNet features, as results/signal_game/README.md says. Hours on two cores; it goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
features="data.path=$1"
here=results/signal_game
latent=${LATENT:-latent}

$latent sweep configs/sweeps/emoji.yaml --out $here
$latent sweep configs/sweeps/tiny_imagenet_selection.yaml "$features" --out $here
$latent sweep configs/sweeps/tiny_imagenet_rates.yaml "$features" --out $here
$latent sweep configs/sweeps/tiny_imagenet.yaml "$features" --out $here
$latent sweep configs/sweeps/tiny_imagenet_long.yaml "$features" --out $here

for experiment in tiny_imagenet_selection tiny_imagenet_long; do
    $latent table $here/$experiment --cells --out $here/$experiment/cells.md
done
$latent table $here/tiny_imagenet_long --compare dense --out $here/tiny_imagenet_long/table.md
for experiment in emoji tiny_imagenet; do
    folder=$here/$experiment
    $latent table $folder --compare dense --out $folder/table.md
    $latent table $folder --compare dense --out $folder/table.tex
    $latent table $folder --runs $folder/runs.csv --curves $folder/curves.csv > /dev/null
    $latent report $folder --no-links --out $folder/report.html --figures $folder/figures
done
