"""Looking at results: what lies in a folder, one page about it, and a map on this machine.

    from unclouded.view.folder import scan        # the results in a folder, nothing outside it
    from unclouded.view.report import write_report    # one HTML page with everything inside
    from unclouded.view.app import make_app       # the viewer (extra "view")
"""
