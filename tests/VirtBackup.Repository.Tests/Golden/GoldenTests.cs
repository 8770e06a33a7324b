using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Golden;

/// <summary>What earlier versions have written is read for ever. See README.md here.</summary>
public sealed class GoldenTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("virtbackup-golden-").FullName;

    public static TheoryData<int> FormatVersions => [.. Enumerable.Range(1, GoldenFiles.FormatVersion)];

    public static TheoryData<int, int> SchemaVersions =>
        [.. FormatVersions.SelectMany(static format => Enumerable.Range(1, RepositoryIndex.Schema.Version).Select(schema => (format.Data, schema)))];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [MemberData(nameof(FormatVersions))]
    public async Task EveryByteOfARepositoryOfThatVersionIsRead(int formatVersion)
    {
        using var store = GoldenFiles.OpenCopy(formatVersion, _folder);
        await using var world = await World.OpenAsync(store, World.NewIndex());
        Assert.True(world.Repository.OpenReport.Rebuilt);
        Assert.Empty(world.Repository.OpenReport.Problems);
        Assert.Equal(GoldenPoint.Forgotten.Bytes.Id, Assert.Single(await world.Repository.ListForgottenAsync(World.Token)).Point);
        await world.Repository.RecallAsync(GoldenPoint.Forgotten.Bytes.Machine.Vm, GoldenPoint.Forgotten.Bytes.Id, World.Token);
        Assert.Equal(
            GoldenPoint.All.Select(static point => point.Bytes.Id).Order(), (await world.Repository.ListPointsAsync(null, World.Token)).Select(static point => point.Point).Order());
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        foreach (var point in GoldenPoint.All)
        {
            var reader = await world.Repository.OpenPointAsync(point.Bytes.Id, World.Token);
            Assert.Equal(point.Bytes.Manifest, reader.Manifest.Bytes.ToArray());
            var read = await World.ReadAsync(reader, [new ByteRange(0, point.Bytes.Geometry.StreamLength)]);
            Assert.Equal(point.Records.Select(Convert.ToHexString).Order(StringComparer.Ordinal), read.Select(Convert.ToHexString).Order(StringComparer.Ordinal));
        }
    }

    /// <summary>Version 1 of the index knew too little and is made anew; all later ones are used.</summary>
    [Theory]
    [MemberData(nameof(SchemaVersions))]
    public async Task AnIndexOfThatSchemaSaysWhatARebuiltOneSays(int formatVersion, int schemaVersion)
    {
        IReadOnlyList<string> rebuilt;
        using (var store = GoldenFiles.OpenCopy(formatVersion, Path.Combine(_folder, "rebuilt")))
        {
            await using var world = await World.OpenAsync(store, World.NewIndex());
            rebuilt = await world.DumpAsync();
        }
        var path = Path.Combine(_folder, "index.db");
        GoldenFiles.RestoreIndex(GoldenFiles.IndexOf(formatVersion, schemaVersion), path);
        using var copy = GoldenFiles.OpenCopy(formatVersion, _folder);
        await using var migrated = await World.OpenAsync(copy, SqliteDatabase.Open(path, RepositoryIndex.Schema));
        Assert.Equal(schemaVersion == 1, migrated.Repository.OpenReport.Rebuilt);
        Assert.Empty(migrated.Repository.OpenReport.Problems);
        Assert.Equal(rebuilt, await migrated.DumpAsync());
        Assert.True((await migrated.Repository.AuditAsync(World.Token)).IsSound);
    }

    /// <summary>A new version is not published without its golden files.</summary>
    [Fact]
    public async Task ThePresentVersionsHaveTheirGoldenFiles()
    {
        if (!File.Exists(GoldenFiles.IndexOf(GoldenFiles.FormatVersion, RepositoryIndex.Schema.Version)))
        {
            var made = Directory.CreateTempSubdirectory("virtbackup-new-golden-").FullName;
            await GoldenFiles.WriteAsync(made);
            Assert.Fail($"The present versions have no golden files. They were made in {made}: see tests/VirtBackup.Repository.Tests/Golden/README.md");
        }
    }
}
