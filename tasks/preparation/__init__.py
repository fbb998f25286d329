"""Making the folder of a prepared corpus, stage by stage, in bounded memory, on this machine or by Apache Beam."""
