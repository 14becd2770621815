from .cka import cka_map as cka_map
from .kept_samples import kept_samples as kept_samples
from .maps import similarity_map as similarity_map
from .terms import SampleTerms as SampleTerms
from .terms import map_terms as map_terms
from .terms import sample_terms as sample_terms
