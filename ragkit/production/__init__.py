"""What a pipeline needs once people use it: traces of every query, feedback on answers, answers kept for next time.

Each part keeps one SQLite file below ``home()/"production"``, and each is imported from its own module::

    from ragkit.production.monitoring import TraceMonitor

    monitor = TraceMonitor()
    rag = RAGPipeline(vector_store, reranker, llm, monitor=monitor)

A part that fails (a full disk, a locked file) never costs a user the answer; it says once, and visibly, what was lost.
"""
