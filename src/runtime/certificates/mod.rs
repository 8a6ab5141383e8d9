mod wanted;
