"""The contract between the node agent and the recommender: tables, histograms, stores."""
