"""Cross-lingual attention transfer: do a language's heads decide whose fact is believed?"""
