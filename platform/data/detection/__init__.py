"""Images with boxes: COCO, Pascal VOC, YOLO and CSV, read into one data set and packed into arrays."""
