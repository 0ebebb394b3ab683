"""The report page: what an experiment's runs show, as one HTML file that needs no network, and as figures for papers.

``curves`` reads what runs wrote down while they trained; ``data`` lays runs out as sections, one a problem; ``charts`` says
which charts a section has and draws them; ``tables`` makes its tables; ``page`` puts all in one file.
"""
