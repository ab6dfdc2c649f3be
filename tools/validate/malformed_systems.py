"""Malformed lattices and couplings: keys of a job, and what the sentence has to contain."""

BOND = '{ from = "A", to = "A", cell = [1, 1], value = 0.3 }'
SYSTEMS: dict[str, tuple[dict[str, str | None], str]] = {
    "an unknown crystal": ({"lattice.name": '"hexagonal"'}, "name"),
    "a name and vectors": (
        {"lattice.name": '"square"', "lattice.vectors": "[[1.0, 0.0], [0.0, 1.0]]"},
        "vectors",
    ),
    "sites of a named crystal": ({"lattice.sites": "{ A = [0.0, 0.0] }"}, "sites"),
    "dependent vectors": ({"lattice.vectors": "[[1.0, 2.0], [2.0, 4.0]]"}, "dependent"),
    "vectors of zero length": ({"lattice.vectors": "[[0.0, 0.0], [0.0, 1.0]]"}, "dependent"),
    "vectors of other lengths": ({"lattice.vectors": "[[1.0], [0.0, 1.0]]"}, "vectors"),
    "sites of another dimension": (
        {"lattice.vectors": "[[1.0, 0.0], [0.0, 1.0]]", "lattice.sites": "{ A = [0.0] }"},
        "sites",
    ),
    "two sites in one place": (
        {
            "lattice.vectors": "[[1.0, 0.0], [0.0, 1.0]]",
            "lattice.sites": "{ A = [0.0, 0.0], B = [1.0, 3.0] }",
        },
        "same place",
    ),
    "too few sides": ({"lattice.name": '"cubic"'}, "shape"),
    "too many sides": ({"lattice.name": '"chain"'}, "shape"),
    "a side of no length": ({"lattice.name": '"kagome"', "lattice.shape": "[0, 4]"}, "shape"),
    "a side of one site": ({"lattice.name": '"triangular"', "lattice.shape": "[1, 4]"}, "shape"),
    "a shape too short for third neighbours": (
        {"lattice.shape": "[2, 4]", "hamiltonian.t": "[1.0, 0.0, 0.2]"},
        "shape",
    ),
    "a shape too short for exchange": (
        {"lattice.shape": "[2, 4]", "classical.exchange": "[0.1, 0.0, 0.2]"},
        "shape",
    ),
    "a twist of other directions": ({"lattice.twist": "[0.1]"}, "twist"),
    "spins on an unknown site": ({"lattice.spins": '["B"]'}, "spins"),
    "a number that is none": ({"hamiltonian.t": '"1+2k"'}, "[hamiltonian] t"),
    "an infinite complex number": ({"hamiltonian.t": '"1e999+1i"'}, "[hamiltonian] t"),
    "J on an unknown site": ({"hamiltonian.J": "{ B = 1.0 }"}, "J"),
    "J on no site": ({"hamiltonian.J": "{}"}, "J"),
    "a potential on an unknown site": ({"hamiltonian.potential": "{ C = 1.0 }"}, "potential"),
    "a field of two components": ({"hamiltonian.field": "[0.1, 0.2]"}, "field"),
    "a bond twice": ({"hamiltonian.bonds": f"[{BOND}, {BOND}]"}, "twice"),
    "a bond in both directions": (
        {"hamiltonian.bonds": f"[{BOND}, {BOND.replace('[1, 1]', '[-1, -1]')}]"},
        "both directions",
    ),
    "a bond of a shell again": (
        {"hamiltonian.bonds": f"[{BOND.replace('[1, 1]', '[1, 0]')}]"},
        "twice",
    ),
    "a bond onto itself": (
        {"hamiltonian.bonds": f"[{BOND.replace('[1, 1]', '[0, 0]')}]"},
        "itself",
    ),
    "a bond from nowhere": (
        {"hamiltonian.bonds": f"[{BOND.replace('from', 'form')}]"},
        "form",
    ),
    "a bond from an unknown site": (
        {"hamiltonian.bonds": f"[{BOND.replace('A', 'B', 1)}]"},
        "from",
    ),
    "a bond to half a cell": (
        {"hamiltonian.bonds": f"[{BOND.replace('[1, 1]', '[0.5, 1]')}]"},
        "cell",
    ),
    "a bond of another dimension": (
        {"hamiltonian.bonds": f"[{BOND.replace('[1, 1]', '[1]')}]"},
        "cell",
    ),
    "a bond without a value": (
        {"hamiltonian.bonds": "[{ cell = [1, 1] }]"},
        "value",
    ),
    "a matrix of another shape": (
        {"hamiltonian.bonds": "[{ cell = [1, 1], value = 1.0, matrix = [[1.0, 0.0]] }]"},
        "matrix",
    ),
    "a vector of two components": (
        {"classical.bonds": "[{ cell = [1, 1], dm = [1.0, 0.0] }]"},
        "dm",
    ),
    "an exchange that is complex": (
        {"classical.bonds": '[{ cell = [1, 1], exchange = "1+1i" }]'},
        "exchange",
    ),
    "a model that the hops are not symmetric enough for": (
        {"hamiltonian.t": '"1+0.5i"'},
        '"attention"',
    ),
    "a linear model in a field on the electrons": (
        {
            "hamiltonian.field": "[0.0, 0.0, 0.1]",
            "effective.model": '"linear"',
            "effective.layers": None,
        },
        '"linear"',
    ),
    "a file of sites that is not there": ({"hamiltonian.site_file": '"none.h5"'}, "site_file"),
    "a file of sites that is none": ({"hamiltonian.site_file": '"job.toml"'}, "site_file"),
}
