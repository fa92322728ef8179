"Where the built site and what npm installs lie."
from pathlib import Path

here = Path(__file__).parent
site = here.parents[1]/"_docs"
modules = here/"node_modules"
