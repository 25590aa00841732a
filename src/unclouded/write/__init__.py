"""What a run leaves behind: cloud-optimised GeoTIFFs, a picture and a STAC item, each complete or absent.

    from unclouded.write.product import ProductWriter    # class, uncertainty and probability rasters, strip by strip
    from unclouded.write.stac import make_item           # the STAC item that describes them
    from unclouded.write.resume import plan_outputs      # what exists already, and whether it may be kept
    from unclouded.write.quicklook import write_quicklook
"""
