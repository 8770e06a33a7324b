using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Database.Tests;

public sealed class ScratchTests : IDisposable
{
    private static readonly SchemaMigrations Schema = new("scratch", 1, ["CREATE TABLE t(a INTEGER)"]);

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_was_appended_is_read_back(bool inMemory)
    {
        await using var database = Open(inMemory);
        var bytes = RandomNumberGenerator.GetBytes(300_000);
        using var scratch = database.OpenScratch();
        Assert.Equal(0, scratch.Length);
        for (var at = 0; at < bytes.Length; at += 70_001)
        {
            scratch.Append(bytes.AsSpan(at, Math.Min(70_001, bytes.Length - at)));
        }
        Assert.Equal(bytes.Length, scratch.Length);
        foreach (var (offset, length) in new[] { (0, bytes.Length), (65_535, 2), (131_072, 65_536), (299_999, 1), (7, 0) })
        {
            var read = new byte[length];
            scratch.Read(offset, read);
            Assert.Equal(bytes[offset..(offset + length)], read);
        }
        Assert.Throws<InvariantException>(() => scratch.Read(bytes.Length - 1, new byte[2]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task It_begins_empty_and_works_inside_a_transaction(bool inMemory)
    {
        await using var database = Open(inMemory);
        using (var first = database.OpenScratch())
        {
            first.Append([1, 2, 3]);
        }
        using var second = database.OpenScratch();
        var read = await database.WriteAsync(
            _ =>
            {
                second.Append([9]);
                var bytes = new byte[1];
                second.Read(0, bytes);
                return bytes[0];
            },
            CancellationToken.None);
        Assert.Equal(9, read);
        Assert.Equal(1, second.Length);
    }

    [Fact]
    public async Task Nothing_of_it_is_left_in_the_folder_even_while_it_is_used()
    {
        await using var database = Open(inMemory: false);
        // A process that was killed while it made the file.
        File.WriteAllText(_folder.File("test.db.scratch"), "left over");
        using var scratch = database.OpenScratch();
        scratch.Append([1]);
        Assert.False(File.Exists(_folder.File("test.db.scratch")));
        Assert.Equal(1, scratch.Length);
    }

    private SqliteDatabase Open(bool inMemory) =>
        inMemory ? SqliteDatabase.OpenInMemory($"scratch {Guid.NewGuid()}", Schema) : SqliteDatabase.Open(_folder.File("test.db"), Schema);
}
