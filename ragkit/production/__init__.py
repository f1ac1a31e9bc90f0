"""What a pipeline needs once people use it: traces of every query, feedback on answers, answers kept for next time.

Traces, cached answers and feedback are one SQLite file each, below ``home()/"production"``. Each part is imported from
its own module::

    from ragkit.production.monitoring import TraceMonitor

    monitor = TraceMonitor()
    rag = RAGPipeline(vector_store, reranker, llm, monitor=monitor)

A part that fails (a full disk, a locked file) never costs a user the answer; what was lost is logged.
"""
