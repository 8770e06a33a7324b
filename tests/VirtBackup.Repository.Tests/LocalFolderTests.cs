using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.ObjectStores;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests;

/// <summary>The whole engine on real files: local folder store and SQLite file.</summary>
public sealed class LocalFolderTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("virtbackup-repository-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task ARepositoryLivesThroughRestartsOnFiles()
    {
        var options = new RepositoryOptions { PackBytesTarget = 300_000 };
        var disk = Enumerable.Range(1, 500).Select(at => at % 11 == 0 ? 0 : at).ToArray();
        var points = new List<PointBytes>();
        IReadOnlyList<string> dump = [];
        for (var run = 1; run <= 3; run++)
        {
            using var store = OpenStore();
            if (run == 1)
            {
                await World.InitializeAsync(store);
            }
            Assert.Equal(FaultReason.RepositoryBusy, Assert.Throws<FaultException>(OpenStore).Reason);
            await using var world = await World.OpenAsync(store, OpenIndex("index.db"), options);
            Assert.Equal(run == 1, world.Repository.OpenReport.Rebuilt);
            disk[run * 50] = 10_000 + run;
            var point = world.NewMachine(1).Point(run, [.. disk]);
            await world.BackUpAsync(point);
            points.Add(point);
            foreach (var made in points)
            {
                await world.AssertReadableAsync(made);
            }
            Assert.Empty((await world.VerifyAsync(open: true)).Damages);
            dump = await world.DumpAsync();
        }
        using var last = OpenStore();
        await using var rebuilt = await World.OpenAsync(last, OpenIndex("other.db"), options);
        Assert.Equal(dump, await rebuilt.DumpAsync());
    }

    private LocalFolderStore OpenStore() => LocalFolderStore.Open(Path.Combine(_folder, "store"), new LocalFolderOptions { CreateFolder = true });

    private SqliteDatabase OpenIndex(string name) => SqliteDatabase.Open(Path.Combine(_folder, name), RepositoryIndex.Schema);
}
