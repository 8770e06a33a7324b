namespace VirtBackup.Sealing.Tests;

/// <summary>Values made from FORMAT.md by another program with another library, from the inputs in <see cref="Fixtures"/>.</summary>
internal static class Golden
{
    public const string IdKey =
        "e32a65fc44fd1c2e639987958e76d4abf3eca1c83bfe01b0ecf84218083009d9";

    public const string GearFirst =
        "49769e4f37405461";

    public const string GearLast =
        "1002d45c90a0a323";

    public const string Secret =
        "52f6ec4d5f8829d6c1cf3bb710cda3b0beffcf822aef70e8e069dea96624927d";

    public const string ChunkId =
        "15fe9119c65f721f20db292d0676c5b30cf07f4bd245e18d81bc1cab8a92b825";

    public const string Epoch =
        "5569fbf917c900afd634705d080f4d06";

    public const string Masked =
        "ae6433754a057ed3a4acf3455fc5179884060925d382ee8d6f90dd7ffdc8dbe4";

    public const string SmallId =
        "23465d7debf2e4cbe6113d9ba8ce6e671e57d3d077a739c392bcaa97f83149fb";

    public const string SmallRecord =
        "56425245430d0a1a01010000100000002c00000023465d7debf2e4cbe6113d9ba8ce6e671e57d3d077a739c392bcaa97f83149fb5555555555555555"
        + "55555555555555550300000031d41a60000102030405060708090a0bb77f263b31daa29821a12dd4af35218e60569aa875cb2ace11a97876202566db";

    public const string Recipient =
        "76805a63a6980c18075424a13f32772d";

    public const string KeyObject =
        "56424b45590d0a1a0101000001010101010101010101010101010101020202020202020202020202020202025569fbf917c900afd634705d080f4d06"
        + "76805a63a6980c18075424a13f32772d047a593180860c4037c83c12749845c8ee1424dd297fadcb895e358255d2c7d2b2a8ca25580f2626fe579062"
        + "ff1b99ff91c24a0da06fb32b5be20148c9249f5650202122232425262728292a2b761b20d535027c9ff49aff2314e7a7d2034809eef29d4fb105ede3"
        + "e8c3bc16e24fc39a446b840d9e7242276a563501911cff5b68d873e38b9a9ee45e33c0d7375f1c2aca0ac05c364d70ae09dbe19180";

    public const string ManifestKey =
        "081120fd94130a0e0536c20ec920454c3707f43b71ab0a6491e4c585fe681ec8";

    public const string KeyringKey =
        "d5336d56f2c5ff7cbf4ff77a8ab562aa90ea75a0772c369a4f81eb0f01b1f2d4";

    public const string RecordKey =
        "222bcaab1b27c0ffd9a1c43a2075a1e6be8fff0cee6ee2bc2206caad36589d09";
}
