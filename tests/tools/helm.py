"""What helm.sh runs. Prints JSON: a lint's report, or the rendered files by their names; exits 1 with Helm's words on stderr."""

import json
import sys

import helm_python

verb, path, release, namespace = sys.argv[1:]
values = json.load(sys.stdin)
try:
    if verb == "lint":
        answer = helm_python.lint(path, values, strict=True, namespace=namespace)
    else:
        with helm_python.Chart.load(path) as chart:
            answer = chart.render(values, name=release, namespace=namespace)
except Exception as error:  # Helm's own words are what is wanted.
    print(error, file=sys.stderr)
    sys.exit(1)
json.dump(answer, sys.stdout)
