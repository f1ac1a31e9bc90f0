"""x"""
from bench.faults import database
import sys
