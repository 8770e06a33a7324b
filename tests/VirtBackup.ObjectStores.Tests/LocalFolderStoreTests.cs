using System.Diagnostics;
using System.Runtime.Versioning;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests;

[SupportedOSPlatform("linux")]
public sealed class LocalFolderStoreTests : IDisposable
{
    private static readonly CancellationToken None = CancellationToken.None;

    private readonly string _root = Directory.CreateTempSubdirectory("virtbackup-local-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_second_owner_is_refused_until_the_first_closes(bool portable)
    {
        var options = new LocalFolderOptions { PortableOnly = portable };
        using (LocalFolderStore.Open(_root, options))
        {
            var fault = Assert.Throws<FaultException>(() => LocalFolderStore.Open(_root, options));
            Assert.Equal(FaultReason.RepositoryBusy, fault.Reason);
            Assert.Contains(_root, fault.Message, StringComparison.Ordinal);
            if (!portable)
            {
                Assert.Contains($"process {Environment.ProcessId} on {Environment.MachineName}", fault.Message, StringComparison.Ordinal);
            }
        }
        using var second = LocalFolderStore.Open(_root, options);
    }

    [Fact]
    public void A_lock_of_another_process_is_respected()
    {
        using (LocalFolderStore.Open(_root))
        {
        }
        using var other = Process.Start(new ProcessStartInfo("flock", ["--exclusive", Path.Combine(_root, "lock"), "sh", "-c", "echo locked; read line"])
        {
            RedirectStandardInput = true, RedirectStandardOutput = true,
        })!;
        Assert.Equal("locked", other.StandardOutput.ReadLine());
        Assert.Equal(FaultReason.RepositoryBusy, Assert.Throws<FaultException>(() => LocalFolderStore.Open(_root)).Reason);
        other.StandardInput.WriteLine();
        other.WaitForExit();
        using var owner = LocalFolderStore.Open(_root);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_reader_reads_beside_the_owner_and_changes_nothing(bool portable)
    {
        using var owner = LocalFolderStore.Open(_root, new LocalFolderOptions { PortableOnly = portable });
        await owner.PutAsync("a/b", new byte[] { 1, 2 }, None);
        using var reader = LocalFolderStore.Open(_root, new LocalFolderOptions { IsOwner = false, PortableOnly = portable });
        Assert.Equal([1, 2], await reader.ReadAllAsync("a/b", 2, None));
        await RefusesAsync(FaultReason.Denied, async () => await reader.PutAsync("c", new byte[1], None));
        await RefusesAsync(FaultReason.Denied, async () => await reader.DeleteAsync("a/b", None));
        Assert.NotNull(await owner.FindAsync("a/b", None));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_a_crash_left_staged_is_removed_and_the_rest_stays(bool portable)
    {
        var options = new LocalFolderOptions { PortableOnly = portable };
        using (var store = LocalFolderStore.Open(_root, options))
        {
            await store.PutAsync("kept/1", new byte[] { 9 }, None);
        }
        var stale = Path.Combine(_root, "staging", "0123456789abcdef");
        File.WriteAllText(stale, "half an object");
        using (LocalFolderStore.Open(_root, options with { IsOwner = false }))
        {
            Assert.True(File.Exists(stale));
        }
        using var again = LocalFolderStore.Open(_root, options);
        Assert.False(File.Exists(stale));
        Assert.Equal([9], await again.ReadAllAsync("kept/1", 1, None));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Files_and_folders_are_the_owners_alone(bool portable)
    {
        var root = Path.Combine(_root, "new");
        using var store = LocalFolderStore.Open(root, new LocalFolderOptions { CreateFolder = true, PortableOnly = portable });
        await store.PutAsync("a/b/c", new byte[1], None);
        const UnixFileMode FileMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        foreach (var folder in new[] { root, $"{root}/staging", $"{root}/a", $"{root}/a/b" })
        {
            Assert.Equal(FileMode | UnixFileMode.UserExecute, File.GetUnixFileMode(folder));
        }
        Assert.Equal(FileMode, File.GetUnixFileMode($"{root}/a/b/c"));
        await using var writer = await store.CreateAsync(None);
        Assert.Equal(FileMode, File.GetUnixFileMode(Directory.GetFiles($"{root}/staging").Single()));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Symbolic_links_lead_nowhere(bool portable)
    {
        var root = Path.Combine(_root, "store");
        var outside = Path.Combine(_root, "outside");
        Directory.CreateDirectory(root);
        Directory.CreateDirectory(outside);
        File.WriteAllText(Path.Combine(outside, "secret"), "secret");
        using var store = LocalFolderStore.Open(root, new LocalFolderOptions { PortableOnly = portable });
        File.CreateSymbolicLink(Path.Combine(root, "folder"), outside);
        File.CreateSymbolicLink(Path.Combine(root, "file"), Path.Combine(outside, "secret"));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await store.ReadAsync("folder/secret", 0, new byte[1], None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await store.ReadAsync("file", 0, new byte[1], None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await store.FindAsync("folder/secret", None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await store.DeleteAsync("folder/secret", None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await store.PutAsync("folder/new", new byte[1], None));
        Assert.Equal(["secret"], Directory.GetFiles(outside).Select(Path.GetFileName));
        await foreach (var info in store.ListAsync("", None))
        {
            Assert.Fail($"{info.Key} lies outside.");
        }
        // A link as the object itself counts as a key that is taken.
        Assert.False(await store.PutAsync("file", new byte[1], None));
        Assert.Equal("secret", File.ReadAllText(Path.Combine(outside, "secret")));
    }

    [Fact]
    public async Task A_full_device_is_reported_and_leaves_no_trace()
    {
        await OnSmallFileSystemAsync("size=4m", async root =>
        {
            using var store = LocalFolderStore.Open(root);
            Assert.True(await store.PutAsync("first", new byte[1 << 20], None));
            var fault = await RefusesAsync(FaultReason.DeviceFull, async () =>
            {
                await using var writer = await store.CreateAsync(None);
                for (var i = 0; i < 8; i++)
                {
                    await writer.WriteAsync(new byte[1 << 20], None);
                }
                await writer.PublishAsync("second", None);
            });
            Assert.Contains(root, fault.Message, StringComparison.Ordinal);
            Assert.Matches(@"\d+ bytes free", fault.Message);
            Assert.Empty(Directory.GetFiles(Path.Combine(root, "staging")));
            Assert.Null(await store.FindAsync("second", None));
            var free = await store.GetFreeBytesAsync(None);
            Assert.InRange(free!.Value, 2 << 20, (3 << 20) - 1);
            Assert.True(await store.PutAsync("third", new byte[1 << 20], None));
        });
    }

    [Fact]
    public async Task Without_a_free_inode_nothing_is_staged()
    {
        await OnSmallFileSystemAsync("size=4m,nr_inodes=8", async root =>
        {
            using var store = LocalFolderStore.Open(root);
            await RefusesAsync(FaultReason.DeviceFull, async () =>
            {
                for (var i = 0; i < 8; i++)
                {
                    await store.PutAsync($"object-{i}", new byte[1], None);
                }
            });
            Assert.Empty(Directory.GetFiles(Path.Combine(root, "staging")));
        });
    }

    [Fact]
    public async Task A_read_only_file_system_is_named_as_the_cause()
    {
        await OnSmallFileSystemAsync("size=4m", async root =>
        {
            using var store = LocalFolderStore.Open(root);
            await store.PutAsync("kept", new byte[1], None);
            store.Dispose();
            Run("mount", "-o", "remount,ro", root);
            var fault = Assert.Throws<FaultException>(() => LocalFolderStore.Open(root));
            Assert.Equal(FaultReason.Denied, fault.Reason);
            Assert.Contains("read-only", fault.Message, StringComparison.Ordinal);
            using var reader = LocalFolderStore.Open(root, new LocalFolderOptions { IsOwner = false });
            Assert.NotNull(await reader.FindAsync("kept", None));
        });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_missing_folder_is_not_replaced_by_an_empty_one(bool portable)
    {
        var missing = Path.Combine(_root, "not-mounted");
        var fault = Assert.Throws<FaultException>(() => LocalFolderStore.Open(missing, new LocalFolderOptions { PortableOnly = portable }));
        Assert.Equal(FaultReason.NotFound, fault.Reason);
        Assert.Contains(missing, fault.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(missing));
    }

    [Fact]
    public async Task Open_files_are_bounded_and_deletion_frees_their_space()
    {
        const int OpenFilesMax = 4;
        using var store = LocalFolderStore.Open(_root, new LocalFolderOptions { OpenFilesMax = OpenFilesMax });
        for (var i = 0; i < 20; i++)
        {
            await store.PutAsync($"many/{i}", new byte[] { (byte)i }, None);
        }
        for (var i = 0; i < 60; i++)
        {
            Assert.Equal([(byte)(i % 20)], await store.ReadAllAsync($"many/{i % 20}", 1, None));
        }
        Assert.Equal(OpenFilesMax, OpenFilesBelow("many"));
        for (var i = 0; i < 20; i++)
        {
            Assert.True(await store.DeleteAsync($"many/{i}", None));
        }
        Assert.Equal(0, OpenFilesBelow("many"));
    }

    [Fact]
    public async Task Lists_pass_over_what_is_not_the_stores()
    {
        using var store = LocalFolderStore.Open(_root);
        await store.PutAsync("ours", new byte[1], None);
        File.WriteAllText(Path.Combine(_root, "not a key"), "");
        Directory.CreateDirectory(Path.Combine(_root, "lost+found"));
        File.WriteAllText(Path.Combine(_root, "lost+found", "x"), "");
        await using var staged = await store.CreateAsync(None);
        var keys = new List<string>();
        await foreach (var info in store.ListAsync("", None))
        {
            keys.Add(info.Key);
        }
        Assert.Equal(["ours"], keys);
    }

    [Fact]
    public async Task A_disposed_store_does_nothing()
    {
        var store = LocalFolderStore.Open(_root);
        await store.PutAsync("a", new byte[1], None);
        await using var writer = await store.CreateAsync(None);
        store.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await store.ReadAsync("a", 0, new byte[1], None));
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await store.CreateAsync(None));
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await writer.PublishAsync("b", None));
    }

    private int OpenFilesBelow(string folder) =>
        Directory.GetFiles("/proc/self/fd").Count(link => TargetOf(link).StartsWith(Path.Combine(_root, folder), StringComparison.Ordinal));

    private static string TargetOf(string link)
    {
        try
        {
            return File.ResolveLinkTarget(link, false)?.FullName ?? "";
        }
        catch (FileNotFoundException)
        {
            // Another test has closed it meanwhile.
            return "";
        }
    }

    private async Task OnSmallFileSystemAsync(string size, Func<string, Task> test)
    {
        var mount = Path.Combine(_root, "small");
        Directory.CreateDirectory(mount);
        Run("mount", "-t", "tmpfs", "-o", size, "tmpfs", mount);
        try
        {
            await test(mount);
        }
        finally
        {
            Run("umount", mount);
        }
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"This test mounts a small file system and needs root: {program} failed: {error}");
    }

    private static async Task<FaultException> RefusesAsync(FaultReason reason, Func<Task> action)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(action);
        Assert.Equal(reason, fault.Reason);
        return fault;
    }
}
