using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests;

/// <summary>A flush that failed is never repeated, whatever the caller tries.</summary>
public sealed class FailingDeviceTests : IDisposable
{
    private const int InputOutputError = 5;
    private static readonly CancellationToken None = CancellationToken.None;

    private readonly string _root = Directory.CreateTempSubdirectory("virtbackup-failing-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public async Task A_failed_flush_of_a_file_spends_its_writer()
    {
        using var folder = new FailingFolder(_root);
        await using (var writer = new LocalFolderWriter(folder, "staged"))
        {
            await writer.WriteAsync(new byte[10], None);
            await RefusesAsync(FaultReason.Unavailable, async () => await writer.PublishAsync("a", None));
            await RefusesAsync(FaultReason.FailedPrecondition, async () => await writer.PublishAsync("a", None));
            await RefusesAsync(FaultReason.FailedPrecondition, async () => await writer.WriteAsync(new byte[10], None));
        }
        Assert.Equal(1, folder.FileFlushes);
        Assert.Equal(0, folder.Published);
        Assert.False(File.Exists(Path.Combine(_root, "staged")));
    }

    private static async Task RefusesAsync(FaultReason reason, Func<Task> action) =>
        Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(action)).Reason);

    private sealed class FailingFolder(string root) : StoreFolder(root)
    {
        public int FileFlushes { get; private set; }

        public int Published { get; private set; }

        public override SafeFileHandle CreateStaged(string name) =>
            File.OpenHandle(Path.Combine(Root, name), FileMode.CreateNew, FileAccess.ReadWrite);

        public override void SyncFile(SafeFileHandle file)
        {
            FileFlushes++;
            throw Faults.FromErrno("flush a staged object", InputOutputError);
        }

        public override bool Publish(string stagedName, string key)
        {
            Published++;
            return true;
        }

        public override void RemoveStaged(string name) => File.Delete(Path.Combine(Root, name));

        public override SafeFileHandle? OpenRead(string key) => null;

        public override bool Delete(string key) => false;

        public override bool FolderExists(string prefix) => false;

        public override void Dispose()
        {
        }
    }
}
